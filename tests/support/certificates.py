"""Authorities and certificates that a test makes, right or wrong in every way."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from cablectl.identity import encoded
from cablectl.identity.certificate import Certificate, PrivateKey, RevocationList

NOW = datetime(2026, 6, 1, 12, tzinfo=UTC)
DAY = timedelta(days=1)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey
USAGES = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment"),
    *("key_agreement", "key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)
KINDS: Mapping[str, Callable[[str], x509.GeneralName]] = {
    "DNS": x509.DNSName,
    "email": x509.RFC822Name,
    "URI": x509.UniformResourceIdentifier,
}


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def dn(name: str) -> x509.Name:
    parts = [
        x509.NameAttribute(NameOID.COMMON_NAME, name),
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, "test"),
    ]
    return x509.Name(parts)


def usage(*names: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{name: name in names for name in USAGES})


def general(name: str) -> x509.GeneralName:
    kind, _, value = name.partition(":")
    return x509.IPAddress(ip_address(value)) if kind == "IP" else KINDS[kind](value)


@dataclass(frozen=True)
class Made:
    """A certificate and its key, as the library and cablectl have them."""

    key: Key
    loaded: x509.Certificate

    @property
    def certificate(self) -> Certificate:
        return encoded.certificate_of(self.loaded)

    @property
    def private(self) -> PrivateKey:
        return encoded.key_of(self.key)

    @property
    def pem(self) -> bytes:
        return self.loaded.public_bytes(Encoding.PEM)

    def issue(
        self,
        name: str = "west",
        *,
        names: Iterable[str] = ("DNS:west",),
        key: Key | None = None,
        begin: datetime = NOW - DAY,
        end: datetime = NOW + 90 * DAY,
        ca: bool = False,
        key_usage: x509.KeyUsage | None = None,
        extended: Iterable[str] = (),
        subject: x509.Name | None = None,
    ) -> "Made":
        """Return a certificate that this authority issues."""
        key = key or new_key()
        builder = made(subject or dn(name), key, begin, end, ca).issuer_name(self.loaded.subject)
        if names := tuple(names):
            sans = x509.SubjectAlternativeName([general(each) for each in names])
            builder = builder.add_extension(sans, critical=False)
        if key_usage is not None:
            builder = builder.add_extension(key_usage, critical=True)
        if oids := [x509.ObjectIdentifier(oid) for oid in extended]:
            builder = builder.add_extension(x509.ExtendedKeyUsage(oids), critical=False)
        return Made(key, builder.sign(self.key, digest(self.key)))

    def revoke(
        self, revoked: Mapping[int, datetime], next_update: datetime = NOW + 30 * DAY
    ) -> RevocationList:
        """Return a CRL of this authority."""
        builder = x509.CertificateRevocationListBuilder(
            self.loaded.subject, last_update=NOW - DAY, next_update=next_update
        )
        for serial, since in revoked.items():
            entry = x509.RevokedCertificateBuilder(serial, since)
            builder = builder.add_revoked_certificate(entry.build())
        return encoded.list_of(builder.sign(self.key, digest(self.key)))


def digest(key: Key) -> hashes.SHA256 | None:
    return None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()


def made(
    subject: x509.Name, key: Key, begin: datetime, end: datetime, ca: bool
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True)
    )


def authority(
    name: str = "authority",
    *,
    key: Key | None = None,
    begin: datetime = NOW - 30 * DAY,
    end: datetime = NOW + 700 * DAY,
    ca: bool = True,
) -> Made:
    """Return an authority that is signed by itself."""
    key = key or new_key()
    builder = made(dn(name), key, begin, end, ca).issuer_name(dn(name))
    return Made(key, builder.sign(key, digest(key)))
