"""Certificates for the lab's gateways, made anew for each test, and what NSS has of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, pkcs12

from tests.support.certificates import Key, Made, authority, usage

from .gateways import Gateway, Lab
from .traffic import changes

DIRECTORY = "/etc/cablectl"
STORE = "sql:/var/lib/ipsec/nss"
NAME = {"c1": "gw1.example", "c2": "gw2.example"}
HOUR = timedelta(hours=1)
FILE = """
version: 1
mode: {mode}
overlay: vxlan
endpoints:
  - cluster: cluster1
    hostname: gw1.example
    address: 172.18.0.8
    subnets: [10.44.0.0/16]
    key_type: {c1}
  - cluster: cluster2
    hostname: gw2.example
    address: 172.18.0.7
    subnets: [10.45.0.0/16]
    key_type: {c2}
ipsec:
  auth: cert
  cert: {{{cert}}}
  esn: yes
  pfs_group: modp2048
  esp: [aes_gcm-null]
"""


def document(c1: str = "ecdsa", c2: str = "ecdsa", cert: str = "", mode: str = "transport") -> str:
    """Return the file of two gateways with certificates of these types."""
    return FILE.format(mode=mode, c1=c1, c2=c2, cert=cert)


def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


def soon() -> datetime:
    """Return when what is made for a test ends."""
    return now() + 24 * HOUR


def pkcs12_of(made: Made, passphrase: bytes) -> bytes:
    """Return a PKCS#12 file with a certificate and its key."""
    assert not isinstance(made.key, ed25519.Ed25519PrivateKey)
    encryption = BestAvailableEncryption(passphrase)
    return pkcs12.serialize_key_and_certificates(b"own", made.key, made.loaded, None, encryption)


def new_authority(name: str = "lab") -> Made:
    return authority(name, begin=now() - 24 * HOUR, end=now() + 48 * HOUR)


def key_of(kind: str) -> Key:
    if kind == "rsa":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return ec.generate_private_key(ec.SECP256R1())


def issue(
    above: Made,
    name: str,
    kind: str = "ecdsa",
    begin: float = -1,
    end: float = 24,
    more: tuple[str, ...] = (),
) -> Made:
    """Return a gateway's certificate; it is valid between two hours from now."""
    return above.issue(
        name,
        names=(f"DNS:{name}", *more),
        key=key_of(kind),
        begin=now() + begin * HOUR,
        end=now() + end * HOUR,
        key_usage=usage("digital_signature"),
    )


def hand_out(gateway: Gateway, own: Made, *above: Made, trusted: Made, crl: bytes = b"") -> None:
    """Write the files of a gateway: the certificate with those above it, the key, the authority."""
    chain = b"".join(each.pem for each in (own, *above))
    texts = {"cert.pem": chain, "key.pem": own.private.pem, "ca.pem": trusted.pem, "crl.pem": crl}
    for name, text in texts.items():
        gateway.write(f"{DIRECTORY}/{name}", text.decode())


def nss(gateway: Gateway) -> Mapping[str, str]:
    """Return what NSS lists: certificates, keys and CRLs."""
    tools = {"certificates": "certutil -L", "keys": "certutil -K", "crls": "crlutil -L"}
    return {
        kind: gateway.run(*tool.split(), "-d", STORE, check=False).stdout
        for kind, tool in tools.items()
    }


def state(gateway: Gateway) -> tuple[dict[str, str], Mapping[str, str]]:
    """Return what a gateway has, and what NSS has there."""
    return gateway.snapshot(), nss(gateway)


@contextmanager
def unchanged(lab: Lab) -> Iterator[None]:
    """Nothing may be left on the gateways and in NSS."""
    before = [state(gateway) for gateway in lab.gateways]
    yield
    for gateway, (snapshot, listed) in zip(lab.gateways, before, strict=True):
        snapshot_now, listed_now = state(gateway)
        left = changes(snapshot, snapshot_now)
        assert left == "", f"{gateway.name}: {left}"
        assert listed_now == listed, gateway.name
        assert "cablectl" not in listed["certificates"]
