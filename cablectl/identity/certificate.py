"""Certificates, private keys and revocation lists as values (RFC 5280).

This module doesn't load the cryptography library, so a command that only names these types stays
quick. `encoded` reads the values from PEM and PKCS#12.
"""

from base64 import encodebytes
from datetime import datetime
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address

from msgspec import Struct


class CertificateError(ValueError):
    """What was read isn't what was expected.

    `message` is one line without any key material; `hint` is one line: what to do.
    """

    def __init__(self, message: str, *, hint: str) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class DnsName(Struct, frozen=True):
    """A hostname; upper and lower case are the same (RFC 4343)."""

    value: str

    def __str__(self) -> str:
        """Return the name as openssl writes it."""
        return f"DNS:{self.value}"

    def matches(self, wanted: "SubjectName") -> bool:
        """Tell whether this is the name that is wanted; a wildcard matches nothing."""
        return isinstance(wanted, DnsName) and self.value.lower() == wanted.value.lower()


class IpName(Struct, frozen=True):
    """An IPv4 or IPv6 address."""

    value: IPv4Address | IPv6Address

    def __str__(self) -> str:
        """Return the address as openssl writes it."""
        return f"IP:{self.value}"

    def matches(self, wanted: "SubjectName") -> bool:
        """Tell whether this is the address that is wanted."""
        return self == wanted


class EmailName(Struct, frozen=True):
    """An e-mail address; IKE calls it a user's fully qualified domain name (RFC 7296, 3.5)."""

    value: str

    def __str__(self) -> str:
        """Return the e-mail address as openssl writes it."""
        return f"email:{self.value}"

    def matches(self, wanted: "SubjectName") -> bool:
        """Tell whether this is the e-mail address that is wanted; hosts have no case."""
        if not isinstance(wanted, EmailName):
            return False
        (user, _, host), (user_wanted, _, host_wanted) = (
            name.value.rpartition("@") for name in (self, wanted)
        )
        return user == user_wanted and host.lower() == host_wanted.lower()


SubjectName = DnsName | IpName | EmailName


class Rsa(Struct, frozen=True):
    """An RSA key, by the bits of its modulus."""

    bits: int

    def __str__(self) -> str:
        """Return the kind as a message shows it."""
        return f"RSA {self.bits}"


class Ecdsa(Struct, frozen=True):
    """An ECDSA key, by its curve's name in SEC 2, such as secp256r1, which is P-256."""

    curve: str

    def __str__(self) -> str:
        """Return the kind as a message shows it."""
        return f"ECDSA {self.curve}"


class Ed25519(Struct, frozen=True):
    """An Ed25519 key (RFC 8410)."""

    def __str__(self) -> str:
        """Return the kind as a message shows it."""
        return "Ed25519"


class OtherKind(Struct, frozen=True):
    """A key of another kind, by its name."""

    name: str

    def __str__(self) -> str:
        """Return the kind as a message shows it."""
        return self.name


KeyKind = Rsa | Ecdsa | Ed25519 | OtherKind


class KeyUsage(StrEnum):
    """What a key may be used for (RFC 5280, section 4.2.1.3)."""

    DIGITAL_SIGNATURE = "digitalSignature"
    NON_REPUDIATION = "nonRepudiation"
    KEY_ENCIPHERMENT = "keyEncipherment"
    DATA_ENCIPHERMENT = "dataEncipherment"
    KEY_AGREEMENT = "keyAgreement"
    KEY_CERT_SIGN = "keyCertSign"
    CRL_SIGN = "cRLSign"


class Certificate(Struct, frozen=True, kw_only=True):
    """A certificate. An extension that it doesn't have is None: then every use is allowed.

    `subject` and `issuer` are written as Libreswan writes them. All times are in UTC.
    """

    subject: str
    issuer: str
    names: tuple[SubjectName, ...]
    serial: int
    not_before: datetime
    not_after: datetime
    is_ca: bool
    key_usage: frozenset[KeyUsage] | None
    extended_key_usage: frozenset[str] | None  # OIDs in dotted form
    kind: KeyKind
    sha256: str  # of the DER form, in lower-case hex
    public: bytes  # the key as SubjectPublicKeyInfo, in DER; empty for a kind that can't be read
    der: bytes

    def __repr__(self) -> str:
        """Return a text that fits on a line."""
        return f"Certificate({self.subject!r}, serial={self.serial:x})"

    @property
    def pem(self) -> bytes:
        """The certificate as a file has it."""
        return armored("CERTIFICATE", self.der)

    @property
    def self_issued(self) -> bool:
        """Whether its issuer has its own name, as a root has."""
        return self.subject == self.issuer


class PrivateKey(Struct, frozen=True, kw_only=True):
    """A private key that isn't encrypted; repr() doesn't show it."""

    kind: KeyKind
    public: bytes  # as Certificate.public
    pkcs8: bytes  # PKCS#8 in DER

    def __repr__(self) -> str:
        """Return a text without the key."""
        return f"PrivateKey({self.kind})"

    @property
    def pem(self) -> bytes:
        """The key as a file of mode 0600 has it, not encrypted."""
        return armored("PRIVATE KEY", self.pkcs8)

    def belongs_to(self, certificate: Certificate) -> bool:
        """Tell whether it is the key of a certificate."""
        return bool(self.public) and self.public == certificate.public


class Bundle(Struct, frozen=True, kw_only=True):
    """What a PKCS#12 file holds: a key, the key's certificate, and other certificates."""

    key: PrivateKey | None
    certificate: Certificate | None
    others: tuple[Certificate, ...]


class RevocationList(Struct, frozen=True, kw_only=True):
    """A CRL: the serial numbers that are revoked, each with the time since when."""

    issuer: str
    this_update: datetime
    next_update: datetime | None
    revoked: dict[int, datetime]
    der: bytes

    def __repr__(self) -> str:
        """Return a text that fits on a line."""
        return f"RevocationList({self.issuer!r}, {len(self.revoked)} revoked)"

    @property
    def pem(self) -> bytes:
        """The CRL as a file has it."""
        return armored("X509 CRL", self.der)


def armored(label: str, der: bytes) -> bytes:
    """Return the PEM form (RFC 7468)."""
    raw = encodebytes(der).replace(b"\n", b"")
    lines = [raw[start : start + 64] for start in range(0, len(raw), 64)]
    name = label.encode()
    return b"\n".join([b"-----BEGIN %s-----" % name, *lines, b"-----END %s-----" % name, b""])
