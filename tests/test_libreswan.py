"""Dialects, and parsers held against what both daemons really printed."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl import libreswan
from cablectl.errors import UsageError
from cablectl.libreswan import Version
from cablectl.model import Cable, Encapsulation, Offload
from tests.conftest import load

CAPTURES = Path(__file__).parent / "captures"
NAMES = tuple(f"submariner-cable-cluster2-172-18-0-7-{i}" for i in (0, 1))


def blocks(release: str, command: str) -> list[str]:
    """Return what each run of a command printed, in the order of the capture."""
    text = (CAPTURES / f"libreswan-{release}.txt").read_text()
    found = re.findall(
        rf"^===== \$ {re.escape(command)}\n(.*?)^# exit 0$", text, re.MULTILINE | re.DOTALL
    )
    assert found, command
    return found


@pytest.mark.parametrize("release", ["4.10", "5.2"])
class TestCaptures:
    def test_up_only_with_a_child_sa(self, release: str) -> None:
        nothing, routed, *_, up = blocks(release, "ipsec whack --trafficstatus")
        assert libreswan.parse_established(nothing) == frozenset()
        assert libreswan.parse_established(routed) == frozenset()
        assert libreswan.parse_established(up) == set(NAMES)

    def test_states_of_a_connection(self, release: str) -> None:
        loaded, routed, up = blocks(release, "ipsec whack --status")
        traffic = blocks(release, "ipsec whack --trafficstatus")[-1]
        assert self.states(loaded, "") == [(False, False)] * 2
        assert self.states(routed, "") == [(True, False)] * 2
        assert self.states(up, traffic) == [(True, True)] * 2

    def states(self, status: str, traffic: str) -> list[tuple[bool, bool]]:
        found = libreswan.parse_connections(status, traffic)
        assert set(found) == set(NAMES)
        return [(found[name].routed, found[name].up) for name in NAMES]

    def test_selectors_are_those_of_the_cable(self, release: str) -> None:
        cable = load("quickstart")
        for status in blocks(release, "ipsec whack --status"):
            found = libreswan.parse_connections(status, "")
            for connection in cable.connections:
                expected = libreswan.selectors(cable, connection)
                assert found[connection.name].selectors == expected

    def test_an_ike_sa_alone_is_not_up(self, release: str) -> None:
        negotiating = blocks(release, "ipsec whack --showstates")[1]
        assert "IKE_SA_INIT" in negotiating
        assert libreswan.parse_established(negotiating) == frozenset()


def test_only_esp_counts() -> None:
    line = "006 #3: \"x\", type={}, add_time=1795438861, inBytes=0, outBytes=0, id='172.18.0.7'"
    assert libreswan.parse_established(line.format("ESP")) == {"x"}
    assert libreswan.parse_established(line.format("AH")) == frozenset()


def test_the_reason_of_a_refusal() -> None:
    # The one for whom the keys differ; the capture of 4.10 has no refusal.
    text = (CAPTURES / "libreswan-5.2.txt").read_text().partition("##### wrong PSK")[2]
    refusal = libreswan.parse_refusal(text)
    assert refusal
    assert refusal.reason == "authentication failed"
    assert "AUTHENTICATION_FAILED" in refusal.line
    assert libreswan.parse_refusal("#2: retransmission; will wait 1 seconds") is None


@given(st.text())
def test_mangled_lines_are_never_up(text: str) -> None:
    libreswan.parse_connections(text, text)
    up = blocks("5.2", "ipsec whack --trafficstatus")[-1].splitlines()[0]
    for cut in range(len(up)):
        if "type=ESP," not in up[:cut]:
            assert libreswan.parse_established(up[:cut] + text) <= {NAMES[0]}
            assert libreswan.parse_established(text + up[cut:]) <= {NAMES[0]}


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("Libreswan 4.10", Version(4, 10)),
        ("Linux Libreswan U5.2/K6.1", None),
        ("5.2", Version(5, 2)),
        ("v5.3.1", Version(5, 3)),
        ("4", None),
        ("3.32", None),
        ("Linux strongSwan U5.9.8/K6.1.0", None),
        ("", None),
    ],
)
def test_versions(text: str, version: Version | None) -> None:
    if version:
        assert libreswan.parse_version(text) == version
    else:
        with pytest.raises(UsageError):
            libreswan.parse_version(text)


def test_minor_releases_are_numbers() -> None:
    assert Version(4, 9) < Version(4, 10) < Version(5, 0)


def flags(cable: Cable, release: str) -> str:
    argv = libreswan.add(cable, cable.connections[0], libreswan.parse_version(release))
    return " ".join(argv)


def test_mode_and_encapsulation_by_dialect(cable: Cable) -> None:
    for release, yes in (
        ("4.10", "--forceencaps"),
        ("5.2", "--encaps yes"),
        ("5.4", "--encaps yes"),
    ):
        assert f" {yes} " in flags(cable, release)
        assert ("--transport" in flags(cable, release)) == (release != "4.10")
        for asked, form in ((Encapsulation.NO, " --encaps no "), (Encapsulation.AUTO, None)):
            argv = flags(replace(cable, ipsec=replace(cable.ipsec, encapsulation=asked)), release)
            assert form in argv if form else "encaps" not in argv


def test_dead_peer_detection_by_dialect(cable: Cable) -> None:
    assert flags(cable, "4.10").endswith(" --dpdaction hold --dpddelay 30")
    assert flags(cable, "5.2").endswith("4500 --dpddelay 30")
    off = replace(cable, ipsec=replace(cable.ipsec, dpd=None))
    assert "--dpd" not in flags(off, "4.10") + flags(off, "5.2")


def test_algorithms_by_dialect(cable: Cable) -> None:
    both = replace(cable.ipsec, pfs_group="modp2048", esp=("aes_gcm-null", "aes256-sha2_256"))
    this = replace(cable, ipsec=both)
    assert " --pfs --pfsgroup modp2048 --esp aes_gcm-null,aes256-sha2_256 " in flags(this, "4.10")
    assert " --esp aes_gcm-null;modp2048,aes256-sha2_256;modp2048 " in flags(this, "5.3")
    assert "--pfsgroup" not in flags(this, "5.3")
    alone = replace(cable, ipsec=replace(cable.ipsec, pfs_group="modp2048"))
    with pytest.raises(UsageError, match=r"ipsec\.pfs_group"):
        flags(alone, "5.3")


def test_offload_off(cable: Cable) -> None:
    off = replace(cable, ipsec=replace(cable.ipsec, offload=Offload.OFF))
    assert " --nic-offload no " in flags(off, "4.10")
    assert "--nic-offload" not in flags(off, "5.2") + flags(cable, "4.10")
