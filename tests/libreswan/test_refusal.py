"""Why negotiations failed, held against what pluto of several releases printed and logged."""

import re

import pytest

from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import Ike
from cablectl.libreswan.refusal import is_unoriented, parse_refusal, without_strangers
from tests.support.captures import by_release

REFUSALS = by_release("refusals")
# What is wrong: the reason here, and at the peer. 4.0 doesn't answer if its kernel has no ESP.
REASONS = {
    "the peer's kernel has no ESP": ("the peer", "the kernel refused the SA"),
    "the keys differ": ("authentication failed", "authentication failed"),
    "this host has no key": ("pluto on this host has no pre-shared key", None),
    "the peer has no key": ("authentication failed", "pluto on this host has no pre-shared key"),
}
CERTIFICATES = by_release("certificates")
REASONS_OF_CERTIFICATES = {
    "of another authority": "is of an authority that this host doesn't trust",
    "has another name": "has another name than the file gives to the peer",
    "has another type of key": "is not for @gw2.example with a key of ECDSA",
    "is revoked": "is revoked",
    "is expired": "is expired or not yet valid",
}
SILENT = ("4.0: the peer's kernel has no ESP",)


@pytest.mark.parametrize("title", REFUSALS)
def test_both_ends_know_the_reason(title: str) -> None:
    (_, printed), (_, states), (_, logged) = REFUSALS[title]
    _, _, what = title.partition(": ")
    here, there = parse_refusal(printed), parse_refusal(logged)
    expected_here, expected_there = REASONS[what]
    if title in SILENT:
        assert here is None
    else:
        assert here
        assert here.reason.startswith(expected_here)
        assert here.remedy
    assert (there and there.reason.startswith(expected_there)) if expected_there else not there
    found = set(pluto.parse_ike(states).values())
    assert (Ike.ESTABLISHED in found) == ("no ESP" in title and title not in SILENT)
    assert pluto.parse_parents(states) == {}


@pytest.mark.parametrize("title", CERTIFICATES)
def test_the_end_that_refuses_a_certificate_says_why(title: str) -> None:
    (_, printed), (_, logged), (_, at_the_peer) = CERTIFICATES[title]
    (expected,) = (reason for end, reason in REASONS_OF_CERTIFICATES.items() if end in title)
    # If an IKE SA is under negotiation, 5.2 prints nothing of a refusal.
    here = parse_refusal(printed)
    assert here or "queue Child SA" in printed
    for refusal in (here, parse_refusal(logged)):
        assert not refusal or expected in refusal.reason
        assert not refusal or "{" not in refusal.remedy
    assert parse_refusal(logged)
    there = parse_refusal(at_the_peer)
    assert not there or there.reason == "authentication failed"


def test_a_kernel_without_esp_at_a_peer_of_4_is_named_beside_the_selectors() -> None:
    (_, printed), *_ = REFUSALS["4.10: the peer's kernel has no ESP"]
    refusal = parse_refusal(printed)
    assert refusal
    assert "TS_UNACCEPTABLE" in refusal.line
    assert "overlay port" in refusal.remedy
    assert "kernel may lack ESP" in refusal.remedy


# From the sources, or seen on gateways in the lab; the reason and the remedy have these words.
LINES = {
    '"x" #3: CREATE_CHILD_SA failed with error notification INVALID_KE_PAYLOAD response suggesting'
    " MODP2048 instead of MODP1536": ("MODP2048 on the peer, MODP1536 on this host", "pfs_group"),
    '003 "x" #3: CREATE_CHILD_SA failed with error notification INVALID_KE_PAYLOAD': (
        "the ends have different PFS groups",
        "pfs_group",
    ),
    '"x" #3: CREATE_CHILD_SA failed with error notification INVALID_SYNTAX': (
        "a part missing",
        "pfs_group",
    ),
    '"x" #2: IKE_AUTH response rejected Child SA with TEMPORARY_FAILURE': (
        "the peer can't install the SA",
        "doctor` on the peer",
    ),
    '"x" #2: CHILD SA failed: TEMPORARY_FAILURE': ("the kernel refused", "boot a kernel"),
    '"x" #2: ERROR: netlink response for XFRM_MSG_UPDSA esp.3a@172.18.0.7: Invalid argument': (
        "the kernel refused",
        "boot a kernel",
    ),
    'ERROR: "x" #2: netlink response for XFRM_MSG_NEWSA esp.3a@172.18.0.7: Invalid argument': (
        "the kernel refused",
        "boot a kernel",
    ),
    "\"x\" #1: FIPS: authentication failed: '172.18.0.8' PSK length of 26 bytes is too short for"
    " PRF HMAC_SHA2_512 in FIPS mode (32 bytes required)": ("too short for FIPS", "secret new"),
    '003 "x" #1: FIPS Error: connection x PSK length of 9 bytes is too short for HMAC_SHA1 PRF in'
    " FIPS mode (10 bytes required)": ("too short for FIPS", "secret new"),
    "\"x\" #1: authentication failed: no PSK found for '172.18.0.8'": ("on this host", "connect"),
    '003 "x" #1: PSK Authentication failed: AUTH mismatch in I2 Auth Payload!': (
        "authentication failed",
        "same pre-shared key",
    ),
    "036 \"x\": failed to add connection: left certificate 'gw' is expired or not yet valid": (
        "the certificate of this host",
        "renew",
    ),
    '002 "x" #1: X509: certificate payload rejected for this connection': (
        "refuses the certificate of the peer",
        "openssl x509",
    ),
    '003 "x" #1: NSS: ERROR: IPsec certificate CN=a invalid: SEC_ERROR_INADEQUATE_KEY_USAGE': (
        "refuses the certificate of the peer",
        "openssl x509",
    ),
    '"x" #1: connection\'s RSA private key not found': ("no key of the certificate", "connect"),
    '002 "x" #1: Peer CERT payload SubjectAltName does not match peer ID for this connection': (
        "another name",
        "identity",
    ),
    '003 "x" #1: No matching PSK found for connection: x': ("on this host", "connect"),
    '"x" #17: connection requires PPK, but we didn\'t find one': ("no PPK", "connect on this host"),
    '"x" #8: Requested PPK_ID not found and connection requires a valid PPK': (
        "the peer has no PPK",
        "same ipsec.ppk",
    ),
    '"x" #19: connection has ppk=insist but peer does not support PPK': (
        "the peer has no PPK",
        "same ipsec.ppk",
    ),
    '"x" #14: ignored received PPK_IDENTITY - connection does not require PPK or PPKID not found': (
        "one end asks for a PPK",
        "same ipsec.ppk",
    ),
    '"x": interface search skipped interface eth1 as it does not have nic-offload support': (
        "eth1 has no ESP offload",
        "offload: auto",
    ),
    '"x": added unoriented IKEv2 connection (neither left=172.18.0.8 nor right=172.18.0.7 match an'
    " interface)": ("neither of the connection's addresses", "ip address"),
}


@pytest.mark.parametrize("line", LINES)
def test_every_reason_has_words_and_a_way_out(line: str) -> None:
    refusal = parse_refusal(f"before\n{line}\nafter")
    reason, remedy = LINES[line]
    assert refusal
    assert reason in refusal.reason
    assert remedy in refusal.remedy
    assert refusal.line == line
    assert is_unoriented(line) == ("unoriented" in line)


@pytest.mark.parametrize(
    "line",
    [
        '"x" #1: PPK AUTH calculated as initiator',
        "\"x\" #1: WARNING: '172.18.0.8' PSK length of 26 bytes is too short for PRF HMAC_SHA2_512"
        " in FIPS mode (32 bytes required)",
        '"x" #1: responding to IKE_SA_INIT message (ID 0) from 172.18.0.7:4500 with unencrypted'
        " notification INVALID_KE_PAYLOAD",
        '"x" #1: received unauthenticated INVALID_KE_PAYLOAD response to KE DH19; resending with'
        " suggested MODP2048",
        'ERROR: "x" #2: netlink response for Del SA esp.3a@172.18.0.8: No such process (errno 3)',
        '"x": added oriented IKEv2 connection',
        '"x": oriented IKEv2 connection (local: left=172.18.0.8 remote: right=172.18.0.7)',
    ],
)
def test_what_pluto_copes_with_is_no_refusal(line: str) -> None:
    assert parse_refusal(line) is None


ANSWER = (
    '"s-c1-0"[1] 172.18.0.7 #1: responding to IKE_AUTH message (ID 1) from 172.18.0.7:500 with'
    " encrypted notification AUTHENTICATION_FAILED"
)


@pytest.mark.parametrize(
    "before",
    [
        "\"s-c1-0\"[1] 172.18.0.7 #1: Peer ID '@c2' mismatched on first found connection and no"
        " better connection found",  # 4.10
        '"s-c1-0"[1] 172.18.0.7 #1: processing decrypted IKE_AUTH request from'
        " 172.18.0.7:UDP/500 containing SK{IDi,IDr,AUTH,SA,TSi,TSr}",  # 5.2
        '"s-c1-0"[2] 172.18.0.7 #11: authentication failed: computed hash does not match',
    ],
)
def test_a_client_of_no_connection_is_refused_in_no_name(before: str) -> None:
    log = f"{before}\n{ANSWER}"
    assert without_strangers(log) == before
    assert without_strangers(ANSWER.replace("[1] 172.18.0.7", "")) != ""


def test_a_client_with_another_key_is_refused_in_its_own_name() -> None:
    hash_differs = "authentication failed: computed hash does not match the received one"
    log = f'"s-c1-0"[1] 172.18.0.7 #1: {hash_differs}\n{ANSWER}'
    assert without_strangers(log) == log


def test_reasons_have_no_empty_braces() -> None:
    told = [parse_refusal(line) for line in LINES]
    assert not [it for it in told if it and re.search(r"[{}]", it.reason)]
