"""The small authority: what it issues is right for IKE, and nothing shows a key."""

import traceback
from datetime import timedelta
from ipaddress import ip_address

import pytest

from cablectl.identity import authority, certificate_checks, issued
from cablectl.identity.certificate import (
    CertificateError,
    DnsName,
    Ecdsa,
    IpName,
    KeyUsage,
    Rsa,
    SubjectName,
)
from cablectl.identity.certificate_checks import Presented
from cablectl.identity.issued import Entry, State
from cablectl.model.x509 import KeyType
from tests.support.certificates import DAY, NOW

ROOT = authority.new_authority(NOW, 730)
WEST = authority.request("west", "west.example")
PASSPHRASE = b"a passphrase that is nowhere shown"


def issue(
    request: authority.Request = WEST, *, days: int = 90, kind: KeyType = KeyType.ECDSA
) -> authority.Issued:
    return authority.issue(ROOT, request, kind, NOW, days)


def problems(made: authority.Issued, name: SubjectName) -> list[str]:
    crl = authority.revocation_list(ROOT, {}, NOW)
    presented = Presented(
        leaf=made.certificate, key=made.key, roots=(ROOT.certificate,), crls=(crl,)
    )
    return [message for message, _ in certificate_checks.problems(presented, name, NOW)]


def test_an_authority_may_sign_and_nothing_else() -> None:
    made = ROOT.certificate
    assert made.is_ca
    assert made.key_usage == frozenset({KeyUsage.KEY_CERT_SIGN, KeyUsage.CRL_SIGN})
    assert made.kind == Ecdsa("secp256r1")
    assert made.not_after == NOW + 730 * DAY
    assert made.subject.startswith("O=cablectl, CN=cablectl authority ")
    assert authority.new_authority(NOW, 730).certificate.subject != made.subject


@pytest.mark.parametrize(
    ("kind", "expected"), [(KeyType.ECDSA, Ecdsa("secp256r1")), (KeyType.RSA, Rsa(3072))]
)
def test_a_gateways_certificate_has_no_problem(kind: KeyType, expected: object) -> None:
    made = issue(kind=kind)
    leaf = made.certificate
    assert leaf.kind == expected
    assert leaf.subject == "O=cablectl, CN=west.example"
    assert leaf.key_usage == frozenset({KeyUsage.DIGITAL_SIGNATURE})
    assert leaf.extended_key_usage == frozenset({"1.3.6.1.5.5.7.3.17"})
    assert leaf.not_before < NOW
    assert leaf.not_after == NOW + 90 * DAY
    assert leaf.serial.bit_length() > 64
    for name in ("west.example", "rotate.west.example"):
        assert problems(made, DnsName(name)) == []
    assert problems(made, DnsName("east.example"))


def test_it_ends_no_later_than_its_authority() -> None:
    assert issue(days=10_000).certificate.not_after == ROOT.certificate.not_after


@pytest.mark.parametrize(
    ("identity", "subject", "names"),
    [
        (None, "O=cablectl, CN=west", "DNS:west DNS:rotate.west"),
        (
            "gw.example",
            "O=cablectl, CN=west",
            "DNS:gw.example DNS:rotate.gw.example DNS:rotate.west",
        ),
        ("192.0.2.1", "O=cablectl, CN=west", "IP:192.0.2.1 DNS:rotate.west"),
        ("2001:db8::1", "O=cablectl, CN=west", "IP:2001:db8::1 DNS:rotate.west"),
        ("C=FR, o=Example, CN=gw", "C=FR, O=Example, CN=gw", "DNS:west DNS:rotate.west"),
    ],
)
def test_the_names_follow_from_the_identity(identity: str | None, subject: str, names: str) -> None:
    made = issue(authority.request("cluster1", "west", identity)).certificate
    assert made.subject == subject
    assert " ".join(map(str, made.names)) == names
    assert authority.request("cluster1", "west", identity).fits(made)
    assert not authority.request("cluster1", "other", identity).fits(made)
    if identity and "." in identity and "=" not in identity and identity[0].isdigit():
        assert made.names[0] == IpName(ip_address(identity))


def test_a_hostname_that_no_cn_can_have() -> None:
    """RFC 5280 allows 64 characters in a CN; a subjectAltName has no such limit."""
    host = "a" * 65
    made = issue(authority.request("cluster1", host)).certificate
    assert made.subject == "O=cablectl, CN=cluster1"
    assert made.names[0] == DnsName(host)


@pytest.mark.parametrize("identity", ["X=1", "C=France", "CN=" + "a" * 65, "CN="])
def test_an_identity_that_no_certificate_has(identity: str) -> None:
    with pytest.raises(CertificateError, match="can't be the subject of a certificate"):
        authority.request("cluster1", "west", identity)


def test_a_revocation_list() -> None:
    made = issue()
    serial = made.certificate.serial
    crl = authority.revocation_list(ROOT, {serial: NOW, 7: NOW - DAY}, NOW)
    assert crl.revoked == {serial: NOW, 7: NOW - DAY}
    assert crl.next_update == ROOT.certificate.not_after
    presented = Presented(leaf=made.certificate, roots=(ROOT.certificate,), crls=(crl,))
    ((message, _),) = certificate_checks.problems(presented, None, NOW)
    assert "is revoked since" in message
    later = authority.revocation_list(ROOT, {}, NOW + timedelta(milliseconds=1))
    assert number(later.der) > number(crl.der)


def number(der: bytes) -> int:
    from cryptography import x509

    extensions = x509.load_der_x509_crl(der).extensions
    return extensions.get_extension_for_class(x509.CRLNumber).value.crl_number


def test_the_key_is_encrypted_and_opens_with_its_passphrase_alone() -> None:
    raw = authority.encrypted(ROOT.key, PASSPHRASE)
    assert raw.startswith(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert ROOT.key.pkcs8 not in raw
    assert authority.opened(ROOT.certificate, raw, PASSPHRASE) == ROOT
    with pytest.raises(CertificateError, match="the passphrase is wrong") as caught:
        authority.opened(ROOT.certificate, raw, PASSPHRASE[::-1])
    assert PASSPHRASE[::-1].decode() not in "".join(traceback.format_exception(caught.value))
    other = authority.new_authority(NOW, 1)
    with pytest.raises(CertificateError, match="the key isn't that of"):
        authority.opened(other.certificate, raw, PASSPHRASE)


def test_no_text_shows_a_key() -> None:
    made = issue()
    for key, text in ((made.key, repr(made)), (ROOT.key, repr(ROOT))):
        assert key.pem.split(b"\n")[1].decode() not in text
        assert repr(key.pkcs8) not in text


def entry(*, days: int, revoked: bool = False) -> Entry:
    made = issue(days=days).certificate
    return Entry(certificate=made, revoked=NOW if revoked else None)


def test_the_state_of_a_certificate() -> None:
    assert entry(days=31).state(NOW) is State.VALID
    assert entry(days=30).state(NOW) is State.ENDS_SOON
    assert entry(days=1).state(NOW + 2 * DAY) is State.EXPIRED
    assert entry(days=31, revoked=True).state(NOW + 60 * DAY) is State.REVOKED


def test_the_newest_that_can_be_used_is_current() -> None:
    first, second = entry(days=10), entry(days=40)
    known = issued.entries([second.certificate, first.certificate], {})
    assert known == (first, second)
    assert issued.current(known, WEST, NOW) == second
    assert issued.current(known, WEST, NOW + 50 * DAY) is None
    revoked = issued.entries([each.certificate for each in known], {second.certificate.serial: NOW})
    assert issued.current(revoked, WEST, NOW) == first
    assert issued.current(known, authority.request("west", "other"), NOW) is None


def test_a_certificate_is_found_by_its_names_and_its_serial_number() -> None:
    one = entry(days=10)
    other = issued.Entry(certificate=issue(authority.request("e", "east.example")).certificate)
    serial = f"{one.certificate.serial:040x}"
    pairs = ":".join(serial[start : start + 2] for start in range(0, 40, 2)).upper()
    for name in ("west.example", "rotate.west.example", one.certificate.subject, serial, pairs):
        assert issued.named((one, other), name) == (one,)
    for name in ("west", "", "0", "example", "O=cablectl"):
        assert issued.named((one, other), name) == ()
