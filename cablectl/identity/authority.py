"""A small authority: its certificate, those of gateways, and its revocation list.

Values in, values out: the caller passes the time, and writes the files.
"""

from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta
from ipaddress import ip_address
from typing import assert_never, cast

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from msgspec import Struct

from cablectl.identity import encoded
from cablectl.identity.certificate import (
    Certificate,
    CertificateError,
    DnsName,
    EmailName,
    IpName,
    PrivateKey,
    RevocationList,
    SubjectName,
)
from cablectl.model.x509 import ROTATE, KeyType

IPSEC_IKE = x509.ObjectIdentifier("1.3.6.1.5.5.7.3.17")  # RFC 4945, section 5.1.3.12
ORGANIZATION = "cablectl"
BACKDATED = timedelta(hours=1)  # the clocks of two gateways may differ
MAX_VALUE = 64  # characters of a CN, O or OU (RFC 5280, appendix A.1)
RSA_BITS = 3072  # as strong as P-256 (NIST SP 800-57, part 1, table 2)
OIDS = {name: oid for oid, name in encoded.ATTRIBUTES.items()}
AuthorityKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


class Request(Struct, frozen=True, kw_only=True):
    """Whom a certificate is for: the subject, as pairs of a short name and a value, and names."""

    subject: tuple[tuple[str, str], ...]
    names: tuple[SubjectName, ...]

    @property
    def dn(self) -> str:
        """The subject as Libreswan writes it."""
        return encoded.dn_of(_name(self.subject))

    def fits(self, certificate: Certificate) -> bool:
        """Tell whether a certificate is for the same subject and names."""
        return (certificate.subject, certificate.names) == (self.dn, self.names)


class Authority(Struct, frozen=True, kw_only=True):
    """An authority that can sign."""

    certificate: Certificate
    key: PrivateKey


class Issued(Struct, frozen=True, kw_only=True):
    """A new certificate with its new key."""

    certificate: Certificate
    key: PrivateKey


def request(cluster: str, hostname: str, identity: str | None = None) -> Request:
    """Return the request for a gateway, which its peers know by its identity or hostname.

    The second path of a rotation needs a name of its own. CertificateError for an identity that no
    certificate can have.
    """
    subject: tuple[tuple[str, str], ...]
    subject = (
        ("O", ORGANIZATION),
        ("CN", hostname if len(hostname) <= MAX_VALUE else cluster),
    )
    first: SubjectName = DnsName(hostname)
    if identity and "=" in identity:
        subject = tuple(_attributes(identity))
    elif identity:
        first = _peer_name(identity)
    hosts = {name.value: None for name in (first, DnsName(hostname)) if isinstance(name, DnsName)}
    made = Request(subject=subject, names=(first, *(DnsName(f"{ROTATE}{host}") for host in hosts)))
    _name(subject)
    return made


def new_authority(now: datetime, days: int) -> Authority:
    """Return a new authority; its name has a part by which two authorities can be told apart."""
    key, serial = ec.generate_private_key(ec.SECP256R1()), x509.random_serial_number()
    name = _name((("O", ORGANIZATION), ("CN", f"cablectl authority {serial & 0xFFFFFFFF:08x}")))
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    builder = (
        _builder(name, name, serial, now, now + timedelta(days=days))
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(own, critical=False)
    )
    return Authority(
        certificate=encoded.certificate_of(builder.sign(key, hashes.SHA256())),
        key=encoded.key_of(key),
    )


def issue(authority: Authority, wanted: Request, kind: KeyType, now: datetime, days: int) -> Issued:
    """Return a certificate and its new key; it ends no later than the authority."""
    end = min(now + timedelta(days=days), authority.certificate.not_after)
    key, signer = _new_key(kind), _signer(authority)
    issuer = x509.load_der_x509_certificate(authority.certificate.der)
    own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    names = x509.SubjectAlternativeName([_general(name) for name in wanted.names])
    builder = (
        _builder(_name(wanted.subject), issuer.subject, x509.random_serial_number(), now, end)
        .public_key(key.public_key())
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([IPSEC_IKE]), critical=False)
        .add_extension(names, critical=False)
        .add_extension(own, critical=False)
        .add_extension(above, critical=False)
    )
    return Issued(
        certificate=encoded.certificate_of(builder.sign(signer, hashes.SHA256())),
        key=encoded.key_of(key),
    )


def revocation_list(
    authority: Authority, revoked: Mapping[int, datetime], now: datetime
) -> RevocationList:
    """Return the authority's CRL. It holds until the authority ends, or a new one replaces it.

    Its number is the time, so that a later list has a larger number (RFC 5280, section 5.2.3).
    """
    signer, number = _signer(authority), int(now.timestamp() * 1000)
    above = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(x509.load_der_x509_certificate(authority.certificate.der).subject)
        .last_update(now)
        .next_update(max(authority.certificate.not_after, now + timedelta(days=1)))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(above, critical=False)
    )
    for serial, since in sorted(revoked.items()):
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since)
        builder = builder.add_revoked_certificate(entry.build())
    return encoded.list_of(builder.sign(signer, hashes.SHA256()))


def opened(certificate: Certificate, key: bytes, passphrase: bytes) -> Authority:
    """Return an authority from its certificate and its encrypted key.

    CertificateError if the passphrase is wrong, or the key is another one's.
    """
    found = encoded.read_key(key, passphrase)
    if not found.belongs_to(certificate):
        raise CertificateError(
            f"the key isn't that of '{certificate.subject}'",
            hint="restore the authority's directory from a backup",
        )
    return Authority(certificate=certificate, key=found)


def encrypted(key: PrivateKey, passphrase: bytes) -> bytes:
    """Return a key as PEM, encrypted with a passphrase (PKCS#8, AES-256 and PBKDF2)."""
    return _loaded(key).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(passphrase),
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, serial: int, now: datetime, end: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(end)
    )


def _usage(*names: str) -> x509.KeyUsage:
    others = (*encoded.USAGES, "encipher_only", "decipher_only")
    return x509.KeyUsage(**{name: name in names for name in others})


def _new_key(kind: KeyType) -> AuthorityKey:
    match kind:
        case KeyType.ECDSA:
            return ec.generate_private_key(ec.SECP256R1())
        case KeyType.RSA:
            return rsa.generate_private_key(65537, RSA_BITS)
        case _:
            assert_never(kind)


def _signer(authority: Authority) -> AuthorityKey:
    return _loaded(authority.key)


def _loaded(key: PrivateKey) -> AuthorityKey:
    loaded = serialization.load_der_private_key(key.pkcs8, None)
    return cast("AuthorityKey", loaded)


def _name(subject: tuple[tuple[str, str], ...]) -> x509.Name:
    """Return a distinguished name in the given order; CertificateError if X.509 has no such."""
    try:
        if not all(1 <= len(value) <= MAX_VALUE for _, value in subject):
            raise ValueError  # releases before 40 of the library take any length
        return x509.Name(
            [
                x509.NameAttribute(x509.ObjectIdentifier(OIDS[short.upper()]), value)
                for short, value in subject
            ]
        )
    except (KeyError, ValueError):
        wrong = ", ".join("=".join(pair) for pair in subject)
        raise CertificateError(
            f"'{wrong}' can't be the subject of a certificate",
            hint=f"take attributes of {', '.join(OIDS)}, of 1 to {MAX_VALUE} characters",
        ) from None


def _attributes(identity: str) -> Iterator[tuple[str, str]]:
    for part in identity.split(","):
        short, _, value = part.partition("=")
        yield short.strip(), value.strip()


def _peer_name(identity: str) -> SubjectName:
    try:
        return IpName(ip_address(identity))
    except ValueError:
        return DnsName(identity)


def _general(name: SubjectName) -> x509.GeneralName:
    match name:
        case DnsName(value):
            return x509.DNSName(value)
        case IpName(address):
            return x509.IPAddress(address)
        case EmailName(value):
            return x509.RFC822Name(value)
        case _:
            assert_never(name)
