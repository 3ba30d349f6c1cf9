"""What is read from PEM, PKCS#12 and CRLs; and that no key is in a text or an error."""

import traceback
from datetime import UTC, datetime
from ipaddress import ip_address

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    pkcs12,
)
from cryptography.x509.oid import NameOID

from cablectl.identity import encoded
from cablectl.identity.certificate import (
    CertificateError,
    DnsName,
    Ecdsa,
    Ed25519,
    EmailName,
    IpName,
    KeyUsage,
    Rsa,
)
from tests.support.certificates import DAY, NOW, Key, authority, dn, new_key, usage

PASSPHRASE = b"a passphrase that is nowhere shown"


def test_a_certificate_is_read_whole() -> None:
    root = authority()
    leaf = root.issue(
        names=("DNS:west", "IP:192.0.2.1", "IP:2001:db8::1", "email:a@b", "URI:http://x"),
        key_usage=usage("digital_signature", "content_commitment"),
        extended=("1.3.6.1.5.5.7.3.17",),
    )
    (read,) = encoded.read_pem(leaf.pem)
    assert (read.subject, read.issuer) == ("CN=west, O=test", "CN=authority, O=test")
    assert read.names == (
        DnsName("west"),
        IpName(ip_address("192.0.2.1")),
        IpName(ip_address("2001:db8::1")),
        EmailName("a@b"),
    )
    assert (read.not_before, read.not_after) == (NOW - DAY, NOW + 90 * DAY)
    assert read.not_after.tzinfo is UTC
    assert read.serial == leaf.loaded.serial_number
    assert not read.is_ca
    assert read.key_usage == frozenset({KeyUsage.DIGITAL_SIGNATURE, KeyUsage.NON_REPUDIATION})
    assert read.extended_key_usage == frozenset({"1.3.6.1.5.5.7.3.17"})
    assert read.kind == Ecdsa("secp256r1")
    assert len(read.sha256) == 64
    assert read.pem == leaf.pem
    (above,) = encoded.read_pem(root.pem)
    assert above.is_ca
    assert above.key_usage is above.extended_key_usage is None
    assert above.names == ()


def test_a_chain_is_read_in_order_with_all_that_stands_between() -> None:
    root, other = authority(), authority("other")
    text = b"subject: one\n" + root.pem + root.private.pem + b"\r\nsubject: two\n" + other.pem
    assert [each.subject for each in encoded.read_pem(text)] == [
        "CN=authority, O=test",
        "CN=other, O=test",
    ]


@pytest.mark.parametrize(
    ("key", "kind", "text"),
    [
        (rsa.generate_private_key(65537, 2048), Rsa(2048), "RSA 2048"),
        (ec.generate_private_key(ec.SECP384R1()), Ecdsa("secp384r1"), "ECDSA secp384r1"),
        (ed25519.Ed25519PrivateKey.generate(), Ed25519(), "Ed25519"),
    ],
    ids=["RSA", "ECDSA", "Ed25519"],
)
def test_each_kind_of_key(key: Key, kind: object, text: str) -> None:
    made = authority(key=key)
    assert made.certificate.kind == made.private.kind == kind
    assert str(made.certificate.kind) == text
    assert made.private.belongs_to(made.certificate)
    assert encoded.read_key(made.private.pem) == made.private


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ('a+b,c"', 'CN=a\\+b\\,c\\"'),
        ("a=b #c", "CN=a\\=b \\#c"),
        (" a ", "CN=\\ a\\ "),
        ("é", "CN=\\C3\\A9"),
        ("#1", "CN=#0C022331"),
    ],
)
def test_a_subject_is_escaped_as_libreswan_does(value: str, written: str) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, value)])
    assert encoded.dn_of(name) == written


def test_an_unknown_attribute_is_its_number() -> None:
    street = x509.NameAttribute(NameOID.STREET_ADDRESS, "Way 1")
    assert encoded.dn_of(x509.Name([street, *dn("a")])) == ("2.5.4.9=#0C055761792031, CN=a, O=test")


def test_a_long_unknown_attribute_is_whole() -> None:
    text = "w" * 300
    written = encoded.dn_of(x509.Name([x509.NameAttribute(NameOID.STREET_ADDRESS, text)]))
    assert written == f"2.5.4.9=#0C82012C{text.encode().hex().upper()}"


def test_a_pkcs12_file_has_key_leaf_and_chain() -> None:
    root = authority()
    leaf = root.issue()
    raw = pkcs12.serialize_key_and_certificates(
        b"west", leaf.key, leaf.loaded, [root.loaded], BestAvailableEncryption(PASSPHRASE)
    )
    found = encoded.read_pkcs12(raw, PASSPHRASE)
    assert found.key == leaf.private
    assert (found.certificate, found.others) == (leaf.certificate, (root.certificate,))
    for wrong in (b"wrong", None):
        with pytest.raises(CertificateError, match="the passphrase is wrong"):
            encoded.read_pkcs12(raw, wrong)


def test_a_crl_of_pem_and_of_der() -> None:
    made = authority().revoke({7: NOW - DAY, 9: NOW})
    for raw in (made.pem, made.der):
        read = encoded.read_crl(raw)
        assert read == made
        assert read.issuer == "CN=authority, O=test"
        assert read.revoked == {7: NOW - DAY, 9: NOW}
        assert read.next_update == NOW + 30 * DAY
        assert read.this_update == datetime(2026, 5, 31, 12, tzinfo=UTC)


def encrypted(key: Key) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(PASSPHRASE))


def test_an_encrypted_key_needs_its_passphrase() -> None:
    made = authority()
    raw = encrypted(made.key)
    assert encoded.read_key(raw, PASSPHRASE) == made.private
    with pytest.raises(CertificateError, match="the private key is encrypted"):
        encoded.read_key(raw)
    with pytest.raises(CertificateError, match="the passphrase is wrong"):
        encoded.read_key(raw, b"wrong")
    with pytest.raises(CertificateError, match="the private key is not encrypted"):
        encoded.read_key(made.private.pem, PASSPHRASE)


def test_a_key_of_dsa_is_refused_without_showing_it() -> None:
    key = dsa.generate_private_key(2048)
    raw = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with pytest.raises(CertificateError, match="neither RSA, ECDSA nor Ed25519"):
        encoded.read_key(raw)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "no certificate: the content has no PEM"),
        (authority().private.pem, "no certificate: the content has a private key"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----", "can't be read"),
    ],
    ids=["empty", "key", "broken"],
)
def test_what_is_no_certificate_is_told_in_one_line(raw: bytes, message: str) -> None:
    with pytest.raises(CertificateError, match=message) as caught:
        encoded.read_pem(raw)
    assert caught.value.hint
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "raw",
    [b"", b"x", authority().pem, b"-----BEGIN X509 CRL-----"],
    ids=["empty", "other", "certificate", "torn"],
)
def test_what_is_no_key_and_no_crl(raw: bytes) -> None:
    with pytest.raises(CertificateError, match="not a private key in PEM"):
        encoded.read_key(raw)
    with pytest.raises(CertificateError, match="not a certificate revocation list"):
        encoded.read_crl(raw)


def test_no_text_shows_a_key() -> None:
    """Neither repr() nor the traceback of an error, even with the causes of the error."""
    made = authority(key=new_key())
    body = made.private.pem.split(b"\n")[1].decode()
    texts = [repr(made.private), str(made.private), repr(made.certificate)]
    torn = made.private.pem.replace(b"END PRIVATE", b"END OTHER")
    for raw, passphrase in ((torn, None), (encrypted(made.key), b"wrong")):
        with pytest.raises(CertificateError) as caught:
            encoded.read_key(raw, passphrase)
        texts += traceback.format_exception(caught.value)
        assert caught.value.__suppress_context__
    assert not any(body in text or "wrong'" in text for text in texts)
    assert repr(made.private) == "PrivateKey(ECDSA secp256r1)"
