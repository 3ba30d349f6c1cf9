"""Why negotiations failed, held against what pluto of several releases printed and logged."""

import re

import pytest

from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import Ike
from cablectl.libreswan.refusal import is_unoriented, parse_refusal
from tests.support.captures import by_release

REFUSALS = by_release("refusals")
# What is wrong: the reason here, and at the peer. 4.0 doesn't answer if its kernel has no ESP.
REASONS = {
    "the peer's kernel has no ESP": ("the peer", "the kernel refused the SA"),
    "the keys differ": ("authentication failed", "authentication failed"),
    "this host has no key": ("pluto on this host has no pre-shared key", None),
    "the peer has no key": ("authentication failed", "pluto on this host has no pre-shared key"),
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
    '003 "x" #1: No matching PSK found for connection: x': ("on this host", "connect"),
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
        "\"x\" #1: WARNING: '172.18.0.8' PSK length of 26 bytes is too short for PRF HMAC_SHA2_512"
        " in FIPS mode (32 bytes required)",
        '"x" #1: received unauthenticated INVALID_KE_PAYLOAD response to KE DH19; resending with'
        " suggested MODP2048",
        'ERROR: "x" #2: netlink response for Del SA esp.3a@172.18.0.8: No such process (errno 3)',
        '"x": added oriented IKEv2 connection',
        '"x": oriented IKEv2 connection (local: left=172.18.0.8 remote: right=172.18.0.7)',
    ],
)
def test_what_pluto_copes_with_is_no_refusal(line: str) -> None:
    assert parse_refusal(line) is None


def test_reasons_have_no_empty_braces() -> None:
    told = [parse_refusal(line) for line in LINES]
    assert not [it for it in told if it and re.search(r"[{}]", it.reason)]
