"""Reads PEM, PKCS#12 and CRLs; every CertificateError is one line without any key material.

It runs with cryptography 38 (Debian 12) and every later release.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TypeVar, cast

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import pkcs12

from cablectl.identity.certificate import (
    Bundle,
    Certificate,
    CertificateError,
    DnsName,
    Ecdsa,
    Ed25519,
    EmailName,
    IpName,
    KeyKind,
    KeyUsage,
    OtherKind,
    PrivateKey,
    RevocationList,
    Rsa,
    SubjectName,
)

# What an unreadable file makes the library raise.
BROKEN = (ValueError, TypeError, UnsupportedAlgorithm, x509.DuplicateExtension)
CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
CRL = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)
LOOK = "look at it with: openssl x509 -noout -text -in FILE"
KEY_HINT = "give a private key as PEM, such as `openssl genpkey` writes it"

# The names of Libreswan's own table; any other attribute is written as a number with the BER form.
ATTRIBUTES = {
    "2.5.4.3": "CN",
    "2.5.4.4": "S",
    "2.5.4.5": "SN",
    "2.5.4.6": "C",
    "2.5.4.7": "L",
    "2.5.4.8": "ST",
    "2.5.4.10": "O",
    "2.5.4.11": "OU",
    "2.5.4.12": "T",
    "2.5.4.13": "D",
    "2.5.4.41": "N",
    "2.5.4.42": "G",
    "2.5.4.43": "I",
    "2.5.4.45": "ID",
    "0.9.2342.19200300.100.1.1": "UID",
    "0.9.2342.19200300.100.1.25": "DC",
    "1.2.840.113549.1.9.1": "E",
    "1.2.840.113549.1.9.2": "unstructuredName",
}
Kind = TypeVar("Kind", bound=x509.ExtensionType)
USAGES = {
    "digital_signature": KeyUsage.DIGITAL_SIGNATURE,
    "content_commitment": KeyUsage.NON_REPUDIATION,
    "key_encipherment": KeyUsage.KEY_ENCIPHERMENT,
    "data_encipherment": KeyUsage.DATA_ENCIPHERMENT,
    "key_agreement": KeyUsage.KEY_AGREEMENT,
    "key_cert_sign": KeyUsage.KEY_CERT_SIGN,
    "crl_sign": KeyUsage.CRL_SIGN,
}


def read_pem(raw: bytes) -> tuple[Certificate, ...]:
    """Return all certificates of a PEM text, in order; CertificateError if there is none."""
    found = CERTIFICATE.findall(raw)
    if not found:
        what = "a private key, and no certificate" if b"PRIVATE KEY-----" in raw else "no PEM"
        raise CertificateError(
            f"no certificate: the content has {what}",
            hint="give a certificate as PEM, with the line -----BEGIN CERTIFICATE-----",
        )
    return tuple(_pem(part) for part in found)


def read_pkcs12(raw: bytes, passphrase: bytes | None) -> Bundle:
    """Return what a PKCS#12 file holds; CertificateError if it or the passphrase is wrong."""
    try:
        found = pkcs12.load_pkcs12(raw, passphrase)
    except BROKEN:
        raise CertificateError(
            "not a PKCS#12 file, or the passphrase is wrong",
            hint="try: openssl pkcs12 -noout -info -in FILE",
        ) from None
    first = found.cert
    return Bundle(
        key=None if found.key is None else key_of(found.key),
        certificate=None if first is None else certificate_of(first.certificate),
        others=tuple(certificate_of(other.certificate) for other in found.additional_certs),
    )


def read_key(raw: bytes, passphrase: bytes | None = None) -> PrivateKey:
    """Return the private key of a PEM text; CertificateError if it or the passphrase is wrong."""
    try:
        key = serialization.load_pem_private_key(raw, passphrase)
    except TypeError:  # there is a passphrase and the key isn't encrypted, or the other way round
        encrypted = passphrase is None
        raise CertificateError(
            f"the private key is {'' if encrypted else 'not '}encrypted",
            hint="give its passphrase" if encrypted else "give no passphrase",
        ) from None
    except BROKEN:
        if passphrase is not None:
            raise CertificateError(
                "not a private key, or the passphrase is wrong", hint="check the passphrase"
            ) from None
        raise CertificateError("not a private key in PEM", hint=KEY_HINT) from None
    return key_of(key)


def read_crl(raw: bytes) -> RevocationList:
    """Return a CRL of PEM or DER; CertificateError if it can't be read."""
    try:
        if raw.lstrip().startswith(b"-----BEGIN"):
            return list_of(x509.load_pem_x509_crl(raw))
        return list_of(x509.load_der_x509_crl(raw))
    except BROKEN:
        raise CertificateError(
            "not a certificate revocation list", hint="look at it with: openssl crl -text -in FILE"
        ) from None


def read_crls(raw: bytes) -> tuple[RevocationList, ...]:
    """Return all CRLs of a PEM text, in order; CertificateError if there is none."""
    return tuple(map(read_crl, CRL.findall(raw))) or (read_crl(raw),)


def _pem(part: bytes) -> Certificate:
    try:
        return certificate_of(x509.load_pem_x509_certificate(part))
    except BROKEN:
        raise CertificateError("a certificate can't be read", hint=LOOK) from None


def certificate_of(loaded: x509.Certificate) -> Certificate:
    """Return the library's certificate as a value."""
    extensions = loaded.extensions
    usage = _extension(extensions, x509.KeyUsage)
    extended = _extension(extensions, x509.ExtendedKeyUsage)
    constraints = _extension(extensions, x509.BasicConstraints)
    kind, public = _public(loaded)
    return Certificate(
        subject=dn_of(loaded.subject),
        issuer=dn_of(loaded.issuer),
        names=tuple(_names(extensions)),
        serial=loaded.serial_number,
        not_before=_utc(loaded, "not_valid_before"),
        not_after=_utc(loaded, "not_valid_after"),
        is_ca=constraints is not None and constraints.ca,
        key_usage=None if usage is None else frozenset(_usages(usage)),
        extended_key_usage=None
        if extended is None
        else frozenset(oid.dotted_string for oid in extended),
        kind=kind,
        sha256=loaded.fingerprint(hashes.SHA256()).hex(),
        public=public,
        der=loaded.public_bytes(serialization.Encoding.DER),
    )


def key_of(key: object) -> PrivateKey:
    """Return the library's private key as a value."""
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)) and not isinstance(
        key, ed25519.Ed25519PrivateKey
    ):
        raise CertificateError("the private key is neither RSA, ECDSA nor Ed25519", hint=KEY_HINT)
    public = key.public_key()
    return PrivateKey(
        kind=_kind(public),
        public=_spki(public),
        pkcs8=key.private_bytes(
            serialization.Encoding.DER,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        ),
    )


def list_of(loaded: x509.CertificateRevocationList) -> RevocationList:
    """Return the library's CRL as a value."""
    return RevocationList(
        issuer=dn_of(loaded.issuer),
        this_update=_utc(loaded, "last_update"),
        next_update=_time(loaded, "next_update"),
        revoked={
            entry.serial_number: _utc(entry, "revocation_date")
            for entry in cast("list[x509.RevokedCertificate]", list(loaded))
        },
        der=loaded.public_bytes(serialization.Encoding.DER),
    )


def _time(loaded: object, name: str) -> datetime | None:
    """Return a time; releases before 42 have it without a time zone."""
    late = f"{name}_utc"
    found = getattr(loaded, late) if hasattr(loaded, late) else getattr(loaded, name)
    return None if found is None else cast("datetime", found).replace(tzinfo=UTC)


def _utc(loaded: object, name: str) -> datetime:
    found = _time(loaded, name)
    if found is None:
        raise ValueError(name)
    return found


def _extension(extensions: x509.Extensions, kind: type[Kind]) -> Kind | None:
    try:
        return extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _names(extensions: x509.Extensions) -> Iterator[SubjectName]:
    """Yield the subjectAltNames of the kinds that IKE takes."""
    for name in _extension(extensions, x509.SubjectAlternativeName) or ():
        match name:
            case x509.DNSName():
                yield DnsName(name.value)
            case x509.IPAddress():
                yield IpName(name.value)  # type: ignore[arg-type] # a network only in constraints
            case x509.RFC822Name():
                yield EmailName(name.value)
            case _:
                pass  # a URI or a directory name: IKE has no use for it


def _usages(usage: x509.KeyUsage) -> Iterator[KeyUsage]:
    return (word for name, word in USAGES.items() if getattr(usage, name))


def _public(loaded: x509.Certificate) -> tuple[KeyKind, bytes]:
    try:
        public = loaded.public_key()
    except BROKEN:
        return OtherKind("a kind of key that can't be read"), b""
    return _kind(public), _spki(public)


def _kind(public: object) -> KeyKind:
    match public:
        case rsa.RSAPublicKey():
            return Rsa(public.key_size)
        case ec.EllipticCurvePublicKey():
            return Ecdsa(public.curve.name)
        case ed25519.Ed25519PublicKey():
            return Ed25519()
        case _:
            name = type(public).__name__.lstrip("_")
            return OtherKind(name.removesuffix("PublicKey"))


def _spki(public: object) -> bytes:
    return cast("rsa.RSAPublicKey", public).public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )


def dn_of(name: x509.Name) -> str:
    """Return a distinguished name as Libreswan writes it: in the order of its encoding."""
    return ", ".join(_attribute(attribute) for attribute in name)


def _attribute(attribute: "x509.NameAttribute[str | bytes]") -> str:
    number, value = attribute.oid.dotted_string, attribute.value
    known = ATTRIBUTES.get(number)
    # NSS misreads a "#" at the beginning, even if it is escaped.
    if known is None or isinstance(value, bytes) or value.startswith("#"):
        return f"{known or number}=#{_ber(attribute).hex().upper()}"
    return f"{known}={_escaped(value)}"


def _escaped(value: str) -> str:
    """Return a value as RFC 4514 escapes it, with the further characters that old NSS needs."""
    body = value[1:] if value.startswith(" ") else value
    tail = body.endswith(" ")
    body = body[:-1] if tail else body
    written = "".join(
        f"\\{chr(byte)}"
        if chr(byte) in '\\"+,;<>#='
        else chr(byte)
        if 0x20 <= byte <= 0x7E
        else f"\\{byte:02X}"
        for byte in body.encode()
    )
    return "".join(("\\ " if value.startswith(" ") else "", written, "\\ " if tail else ""))


def _ber(attribute: "x509.NameAttribute[str | bytes]") -> bytes:
    """Return the encoded value of an attribute."""
    rest = x509.Name([attribute]).public_bytes()
    for _ in range(3):  # the name, its only RDN, and its only attribute
        rest = _content(rest)
    return rest[2 + rest[1] :]  # an OID has fewer than 128 bytes


def _content(encoded: bytes) -> bytes:
    """Return what is in a DER element (X.690, section 8.1.3)."""
    length = encoded[1]
    return encoded[2 if length < 0x80 else 2 + (length & 0x7F) :]
