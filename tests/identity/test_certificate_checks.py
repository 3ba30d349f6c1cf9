"""What keeps a certificate from being taken: each problem is found, alone, and said in words."""

from collections.abc import Callable
from datetime import timedelta
from ipaddress import ip_address

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from msgspec.structs import replace

from cablectl.identity import certificate_checks as checks
from cablectl.identity import signatures
from cablectl.identity.certificate import DnsName, EmailName, IpName, SubjectName
from cablectl.identity.certificate_checks import Presented
from tests.support.certificates import DAY, NOW, Made, authority, new_key, usage

ROOT = authority()
MIDDLE = ROOT.issue("middle", names=(), ca=True)
WEST = DnsName("west")
WHICH = "the certificate 'CN=west, O=test'"


def presented(leaf: Made, *roots: Made) -> Presented:
    return Presented(
        leaf=leaf.certificate,
        key=leaf.private,
        roots=tuple(root.certificate for root in roots or (ROOT,)),
    )


def told(what: Presented, name: SubjectName | None = WEST) -> list[str]:
    found = checks.problems(what, name, NOW)
    assert all(hint and "\n" not in message + hint for message, hint in found)
    return [message for message, _ in found]


@pytest.mark.parametrize(
    "leaf",
    [
        ROOT.issue(),
        ROOT.issue(key=rsa.generate_private_key(65537, 2048)),
        ROOT.issue(key=ec.generate_private_key(ec.SECP521R1())),
        ROOT.issue(key_usage=usage("digital_signature")),
        ROOT.issue(key_usage=usage("content_commitment")),
        ROOT.issue(names=("DNS:other", "DNS:WEST")),
        *(ROOT.issue(extended=("1.3.6.1.5.5.7.3.8", oid)) for oid in checks.FOR_IKE),
    ],
    ids=lambda leaf: str(leaf.certificate.kind),
)
def test_a_right_certificate_has_no_problem(leaf: Made) -> None:
    assert told(presented(leaf)) == []


def test_an_authority_with_another_kind_of_key() -> None:
    root = authority(key=rsa.generate_private_key(65537, 2048))
    assert told(presented(root.issue(), root)) == []
    assert not signatures.signed(ROOT.issue().certificate, root.certificate)


def test_an_authority_with_a_key_that_nss_does_not_know() -> None:
    root = authority(key=ed25519.Ed25519PrivateKey.generate())
    assert signatures.signed(root.issue().certificate, root.certificate)
    assert told(presented(root.issue(), root)) == [
        "the authority 'CN=authority, O=test': pluto can't use a key of Ed25519"
    ]


def test_a_chain_is_followed_in_any_order() -> None:
    inner = MIDDLE.issue("inner", names=(), ca=True)
    leaf = presented(inner.issue())
    both = (MIDDLE.certificate, inner.certificate)
    for chain in (both, both[::-1], (*both, authority("other").certificate)):
        assert told(replace(leaf, intermediates=chain)) == []
    assert told(replace(leaf, intermediates=both[1:])) == [
        "the chain ends at the authority 'CN=inner, O=test':"
        " the certificate of its issuer 'CN=middle, O=test' is missing"
    ]


def test_two_authorities_with_one_name_during_a_rotation() -> None:
    """The new authority has the name of the old one, and another key."""
    new = authority()
    assert told(presented(ROOT.issue(), new, ROOT)) == []
    assert told(presented(new.issue(), new, ROOT)) == []
    assert told(presented(ROOT.issue(), new)) == [
        f"{WHICH} isn't signed by the given authority 'CN=authority, O=test'"
    ]


def small_rsa() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 1024)  # noqa: S505 - the test is that it's refused


def loop() -> Presented:
    """Two authorities that signed each other, so that no path ends."""
    one, two = new_key(), new_key()
    first = authority("two", key=two).issue("one", names=(), key=one, ca=True)
    second = authority("one", key=one).issue("two", names=(), key=two, ca=True)
    return replace(presented(first.issue()), intermediates=(first.certificate, second.certificate))


def by_itself() -> Presented:
    key = new_key()
    return presented(authority("west", key=key).issue(key=key))


def not_an_authority() -> Presented:
    middle = ROOT.issue("middle", names=())
    return replace(presented(middle.issue()), intermediates=(middle.certificate,))


def may_not_sign() -> Presented:
    middle = ROOT.issue("middle", names=(), ca=True, key_usage=usage("digital_signature"))
    return replace(presented(middle.issue()), intermediates=(middle.certificate,))


def expired_authority() -> Presented:
    old = authority(end=NOW - 2 * DAY)
    return presented(old.issue(), old)


WRONG: dict[str, tuple[Callable[[], Presented], str]] = {
    "no authority": (
        lambda: replace(presented(ROOT.issue()), roots=()),
        "no certificate of an authority is given",
    ),
    "another authority": (
        lambda: presented(ROOT.issue(), authority("other")),
        f"{WHICH} is issued by 'CN=authority, O=test', and the given authority is"
        " 'CN=other, O=test'",
    ),
    "no intermediate": (
        lambda: presented(MIDDLE.issue()),
        f"{WHICH} is issued by 'CN=middle, O=test', and the given authority is"
        " 'CN=authority, O=test'",
    ),
    "by itself": (
        by_itself,
        f"{WHICH} is signed by itself, not by a given authority",
    ),
    "loop": (loop, "the authority 'CN=two, O=test' isn't signed by the given authority"),
    "not an authority": (
        not_an_authority,
        "the certificate 'CN=middle, O=test' may not issue certificates:"
        " it lacks basicConstraints CA:TRUE",
    ),
    "may not sign": (
        may_not_sign,
        "the authority 'CN=middle, O=test' may not issue certificates:"
        " it lacks keyUsage keyCertSign",
    ),
    "another key": (
        lambda: replace(presented(ROOT.issue()), key=ROOT.private),
        f"the private key (ECDSA secp256r1) doesn't belong to {WHICH} (ECDSA secp256r1)",
    ),
    "expired": (
        lambda: presented(ROOT.issue(begin=NOW - 9 * DAY, end=NOW - timedelta(hours=30))),
        f"{WHICH} is expired since 2026-05-31 06:00 UTC, 1 day ago",
    ),
    "expired authority": (
        expired_authority,
        "the authority 'CN=authority, O=test' is expired since 2026-05-30 12:00 UTC, 2 days ago",
    ),
    "not yet valid": (
        lambda: presented(ROOT.issue(begin=NOW + DAY)),
        f"{WHICH} isn't valid before 2026-06-02 12:00 UTC",
    ),
    "an authority": (
        lambda: presented(ROOT.issue(ca=True)),
        "the authority 'CN=west, O=test' is that of an authority, not of a gateway",
    ),
    "key usage": (
        lambda: presented(ROOT.issue(key_usage=usage("key_encipherment", "key_agreement"))),
        f"{WHICH}: its keyUsage has keyAgreement, keyEncipherment, without digitalSignature,"
        " which IKE needs",
    ),
    "extended key usage": (
        lambda: presented(ROOT.issue(extended=("1.3.6.1.5.5.7.3.3", "1.3.6.1.5.5.7.3.8"))),
        f"{WHICH}: pluto refuses its extendedKeyUsage 1.3.6.1.5.5.7.3.3, 1.3.6.1.5.5.7.3.8",
    ),
    "small": (
        lambda: presented(ROOT.issue(key=small_rsa())),
        f"{WHICH}: RSA with 1024 bits is less than 2048",
    ),
    "curve": (
        lambda: presented(ROOT.issue(key=ec.generate_private_key(ec.SECP256K1()))),
        f"{WHICH}: pluto can't use a key of ECDSA secp256k1",
    ),
    "kind": (
        lambda: presented(ROOT.issue(key=ed25519.Ed25519PrivateKey.generate())),
        f"{WHICH}: pluto can't use a key of Ed25519",
    ),
    "name": (
        lambda: presented(ROOT.issue(names=("DNS:east", "IP:192.0.2.1"))),
        f"{WHICH} isn't for DNS:west: it has DNS:east, IP:192.0.2.1",
    ),
    "no name": (
        lambda: presented(ROOT.issue(names=())),
        f"{WHICH} isn't for DNS:west: it has no subjectAltName",
    ),
    "wildcard": (
        lambda: presented(ROOT.issue(names=("DNS:*",))),
        f"{WHICH} isn't for DNS:west: it has DNS:*",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_each_problem_is_found_alone(case: str) -> None:
    make, message = WRONG[case]
    (found,) = told(make())
    assert found.startswith(message)


@pytest.mark.parametrize(
    ("names", "name", "right"),
    [
        (("IP:2001:db8::1",), IpName(ip_address("2001:db8:0::1")), True),
        (("DNS:192.0.2.1",), IpName(ip_address("192.0.2.1")), False),
        (("email:Ann@EXAMPLE.org",), EmailName("Ann@example.org"), True),
        (("email:ann@example.org",), EmailName("Ann@example.org"), False),
        (("DNS:ann@example.org",), EmailName("ann@example.org"), False),
        (("email:west",), WEST, False),
        ((), None, True),
    ],
)
def test_a_name_is_of_its_kind(
    names: tuple[str, ...], name: SubjectName | None, right: bool
) -> None:
    assert (told(presented(ROOT.issue(names=names)), name) == []) == right


def test_several_problems_come_in_order() -> None:
    leaf = ROOT.issue(names=("DNS:east",), key=small_rsa(), begin=NOW - 9 * DAY, end=NOW - DAY)
    small, expired, name = told(presented(leaf))
    assert "RSA with 1024" in small
    assert "is expired since" in expired
    assert "isn't for DNS:west" in name


def test_without_a_key_only_the_certificate_is_checked() -> None:
    assert told(replace(presented(ROOT.issue()), key=None)) == []


def test_a_revoked_certificate_and_since_when() -> None:
    leaf = ROOT.issue()
    serial = leaf.loaded.serial_number
    with_crl = replace(presented(leaf), crls=(ROOT.revoke({serial: NOW - DAY}),))
    assert told(with_crl) == [f"{WHICH} is revoked since 2026-05-31 12:00 UTC"]
    for revoked in ({serial + 1: NOW - DAY}, {serial: NOW + DAY}, {}):
        assert told(replace(with_crl, crls=(ROOT.revoke(revoked),))) == []


def test_a_revoked_intermediate() -> None:
    crl = ROOT.revoke({MIDDLE.loaded.serial_number: NOW})
    leaf = replace(presented(MIDDLE.issue()), intermediates=(MIDDLE.certificate,), crls=(crl,))
    assert told(leaf) == ["the authority 'CN=middle, O=test' is revoked since 2026-06-01 12:00 UTC"]


def test_a_revocation_list_counts_only_with_its_issuers_signature() -> None:
    leaf = ROOT.issue()
    serial = leaf.loaded.serial_number
    forged, other = authority().revoke({serial: NOW}), authority("other").revoke({serial: NOW})
    with_crl = replace(presented(leaf), crls=(forged, other))
    assert told(with_crl) == [
        "the revocation list of 'CN=authority, O=test' isn't signed by the key of this issuer"
    ]


def test_an_outdated_revocation_list_is_a_matter_of_its_own() -> None:
    leaf, crl = ROOT.issue(), ROOT.revoke({}, next_update=NOW - timedelta(minutes=1))
    assert told(replace(presented(leaf), crls=(crl,))) == []
    ((message, _),) = checks.outdated((crl, ROOT.revoke({})), NOW)
    assert message == (
        "the revocation list of 'CN=authority, O=test' is outdated since 2026-06-01 11:59 UTC"
    )
