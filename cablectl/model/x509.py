"""Certificates of gateways: where they are, and the names by which two gateways know each other."""

from enum import StrEnum
from ipaddress import ip_address
from typing import Annotated

from msgspec import Meta, Struct
from msgspec.structs import replace

from cablectl.model.psk import NEXT

PREFIX = "cablectl-"  # the beginning of every nickname in NSS that cablectl made
ROTATE = "rotate."  # begins the name by which a gateway is known on the second path of a rotation
DEFAULT_CERTIFICATE = "/etc/cablectl/cert.pem"
DEFAULT_KEY = "/etc/cablectl/key.pem"
DEFAULT_AUTHORITY = "/etc/cablectl/ca.pem"

# A colon would separate a token from a nickname in NSS.
FilePath = Annotated[
    str,
    Meta(
        pattern=r"^/[^\x00-\x1f\x7f:]{1,250}\Z",
        description="an absolute path of up to 250 characters, without a colon",
    ),
]
Nickname = Annotated[
    str,
    Meta(
        pattern=r"^(?!cablectl-)[A-Za-z0-9](?:[A-Za-z0-9 ._@+-]{0,61}[A-Za-z0-9._@+-])?\Z",
        description="1 to 63 of A-Z a-z 0-9 space . _ @ + -, not beginning with cablectl-",
    ),
]
# A DN has the fields in the order of the certificate, as `openssl x509 -subject` prints them.
_DN = (
    r"[A-Za-z]{1,20} ?= ?[A-Za-z0-9 ._@/+()'-]{1,64}"
    r"(?:, ?[A-Za-z]{1,20} ?= ?[A-Za-z0-9 ._@/+()'-]{1,64}){0,11}"
)
Identity = Annotated[
    str,
    Meta(
        pattern=rf"^(?:[A-Za-z0-9][A-Za-z0-9._-]{{0,252}}|[0-9A-Fa-f]*:[0-9A-Fa-f:.]+|{_DN})\Z",
        description="a DNS name, an IP address or a DN such as C=FR, O=Example, CN=gateway1",
    ),
]


class Auth(StrEnum):
    """How two gateways prove who they are: by a pre-shared key, or by certificates."""

    PSK = "psk"
    CERT = "cert"


class KeyType(StrEnum):
    """The type of a certificate's key: pluto has to know it before it negotiates."""

    RSA = "rsa"
    ECDSA = "ecdsa"


class Cert(Struct, frozen=True, kw_only=True):
    """Where a gateway's certificate is: in PEM files, in a PKCS#12 file, or in NSS already.

    What the file doesn't name is empty.
    """

    certificate: FilePath = ""  # the gateway's own first, then intermediates
    key: FilePath = ""
    pkcs12: FilePath = ""
    passphrase_file: FilePath = ""  # of the PKCS#12 file or of the key
    nickname: Nickname = ""
    authority: FilePath = ""  # one or more
    crl: FilePath = ""
    key_type: KeyType = KeyType.RSA

    @property
    def certificate_path(self) -> str:
        """The file with the certificate; empty if the certificate is in NSS already."""
        if self.nickname:
            return ""
        return self.pkcs12 or self.certificate or DEFAULT_CERTIFICATE

    @property
    def key_path(self) -> str:
        """The file with the key; empty if the certificate is in NSS already."""
        if self.nickname:
            return ""
        return self.pkcs12 or self.key or DEFAULT_KEY

    @property
    def authority_path(self) -> str:
        """The file with the authorities; empty if they are in NSS already."""
        return "" if self.nickname else self.authority or DEFAULT_AUTHORITY

    @property
    def nss_name(self) -> str:
        """The nickname of the certificate in NSS: the same for all files that name one path.

        The next certificate has the nickname of the one that it replaces: NSS has one nickname for
        all certificates of a subject.
        """
        return self.nickname or f"{PREFIX}{self.certificate_path.removesuffix(NEXT)}"

    def next(self) -> "Cert":
        """Return where the next files are; a file that has no next one stays as it is."""
        if self.nickname:
            return self
        own = {"pkcs12": self.pkcs12} if self.pkcs12 else {"key": self.key_path}
        own |= {} if self.pkcs12 else {"certificate": self.certificate_path}
        paths = {**own, "authority": self.authority_path, "crl": self.crl}
        return replace(self, **{name: path and f"{path}{NEXT}" for name, path in paths.items()})


def pluto_identity(identity: str) -> str:
    """Return an identity as pluto takes it: @NAME for a DNS name, else unchanged."""
    if "=" in identity:
        return ", ".join("=".join(map(str.strip, part.split("=", 1))) for part in _parts(identity))
    try:
        return str(ip_address(identity))
    except ValueError:
        return f"@{identity}"


def _parts(distinguished_name: str) -> list[str]:
    return [part.strip() for part in distinguished_name.split(",")]
