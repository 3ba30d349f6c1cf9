"""Parsers, held against what both daemons really printed."""

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cablectl import pluto
from cablectl.pluto import Selectors, Side
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
        assert pluto.parse_established(nothing) == frozenset()
        assert pluto.parse_established(routed) == frozenset()
        assert pluto.parse_established(up) == set(NAMES)

    def test_states_of_a_connection(self, release: str) -> None:
        loaded, routed, up = blocks(release, "ipsec whack --status")
        traffic = blocks(release, "ipsec whack --trafficstatus")[-1]
        assert self.states(loaded, "") == [(False, False)] * 2
        assert self.states(routed, "") == [(True, False)] * 2
        assert self.states(up, traffic) == [(True, True)] * 2

    def states(self, status: str, traffic: str) -> list[tuple[bool, bool]]:
        found = pluto.parse_connections(status, traffic)
        assert set(found) == set(NAMES)
        return [(found[name].routed, found[name].up) for name in NAMES]

    def test_selectors_are_those_of_the_cable(self, release: str) -> None:
        cable = load("quickstart")
        for status in blocks(release, "ipsec whack --status"):
            found = pluto.parse_connections(status, "")
            for connection in cable.connections:
                expected = pluto.selectors(connection)
                assert found[connection.name].selectors == expected

    def test_an_ike_sa_alone_is_not_up(self, release: str) -> None:
        negotiating = blocks(release, "ipsec whack --showstates")[1]
        assert "IKE_SA_INIT" in negotiating
        assert pluto.parse_established(negotiating) == frozenset()


def test_only_esp_counts() -> None:
    line = "006 #3: \"x\", type={}, add_time=1795438861, inBytes=0, outBytes=0, id='172.18.0.7'"
    assert pluto.parse_established(line.format("ESP")) == {"x"}
    assert pluto.parse_established(line.format("AH")) == frozenset()


def test_the_reason_of_a_refusal() -> None:
    # The one for whom the keys differ; the capture of 4.10 has no refusal.
    text = (CAPTURES / "libreswan-5.2.txt").read_text().partition("##### wrong PSK")[2]
    refusal = pluto.parse_refusal(text)
    assert refusal
    assert refusal.reason == "authentication failed"
    assert "AUTHENTICATION_FAILED" in refusal.line
    assert pluto.parse_refusal("#2: retransmission; will wait 1 seconds") is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('003 "x" #4: IKE_AUTH response rejected Child SA with TS_UNACCEPTABLE', "selectors"),
        ('"x" #6: CREATE_CHILD_SA failed with error notification NO_PROPOSAL_CHOSEN', "proposals"),
        ('"x": we cannot identify ourselves with either end of this connection', "addresses"),
        ("003 need --listen before --initiate", "listen"),
        ('"x" #2: ERROR: netlink response for Add SA esp.1@172.18.0.7 included errno 38', "no SA"),
    ],
)
def test_every_reason_has_words_and_a_way_out(line: str, reason: str) -> None:
    refusal = pluto.parse_refusal(f"181 before\n{line}\nafter")
    assert refusal
    assert reason in refusal.reason
    assert refusal.line == line
    assert refusal.remedy


@given(st.text())
def test_mangled_lines_are_never_up(text: str) -> None:
    pluto.parse_connections(text, text)
    up = blocks("5.2", "ipsec whack --trafficstatus")[-1].splitlines()[0]
    for cut in range(len(up)):
        if "type=ESP," not in up[:cut]:
            assert pluto.parse_established(up[:cut] + text) <= {NAMES[0]}
            assert pluto.parse_established(text + up[cut:]) <= {NAMES[0]}


# What both printed of connections of other modes and overlays; 4.10 but for those that say so.
LINES = {
    "tunnel": (
        '000 "x": 10.44.0.0/16===172.18.0.8:4500[+S?C]...172.18.0.7:4500[+S?C]===10.45.0.0/16;'
        " prospective erouted; eroute owner: #0",
        Side("172.18.0.8", 4500, "10.44.0.0/16", None, None),
        Side("172.18.0.7", 4500, "10.45.0.0/16", None, None),
    ),
    "tunnel through NAT": (
        '000 "x": 10.45.0.0/16===172.18.0.7:4500[+S?C]...172.18.0.9:4500[192.168.1.2,+S?C]'
        "===10.44.0.0/16; erouted; eroute owner: #2",
        Side("172.18.0.7", 4500, "10.45.0.0/16", None, None),
        Side("172.18.0.9", 4500, "10.44.0.0/16", None, None),
    ),
    "server": (
        '000 "x": 10.44.0.0/16===172.18.0.8:4500[@172.18.0.8-0-0,+S?C]...'
        "%any[@172.18.0.7-0-0,+S?C]===10.45.0.0/16; unrouted; eroute owner: #0",
        Side("172.18.0.8", 4500, "10.44.0.0/16", None, None),
        Side(None, None, "10.45.0.0/16", None, None),
    ),
    "GRE": (
        '000 "x": 172.18.0.8/32:GRE/0-65535===172.18.0.8:4500[+S?C]...172.18.0.7:4500[+S?C]==='
        "172.18.0.7/32:GRE/0-65535; erouted; eroute owner: #6",
        Side("172.18.0.8", 4500, "172.18.0.8/32", "GRE", None),
        Side("172.18.0.7", 4500, "172.18.0.7/32", "GRE", None),
    ),
    "no overlay": (
        '000 "x": 172.18.0.8:4500[+S?C]...172.18.0.7:4500[+S?C]; erouted; eroute owner: #8',
        Side("172.18.0.8", 4500, "172.18.0.8/32", None, None),
        Side("172.18.0.7", 4500, "172.18.0.7/32", None, None),
    ),
    "GRE over IPv6 on 5.2": (
        '"x": 2001:db8::8/128/GRE/0===[2001:db8::8]:4500[+S?C]...[2001:db8::7]:4500[+S?C]==='
        "2001:db8::7/128/GRE/0; routed-ondemand; my_ip=unset; their_ip=unset;",
        Side("2001:db8::8", 4500, "2001:db8::8/128", "GRE", None),
        Side("2001:db8::7", 4500, "2001:db8::7/128", "GRE", None),
    ),
    "server on 5.2": (
        '"x": 10.44.0.0/16===172.18.0.8:4500[@172.18.0.8-0-0,+S?C]...%any[@172.18.0.7-0-0,+S?C]'
        "===10.45.0.0/16; unrouted; my_ip=unset; their_ip=unset;",
        Side("172.18.0.8", 4500, "10.44.0.0/16", None, None),
        Side(None, None, "10.45.0.0/16", None, None),
    ),
    "no overlay on 5.2": (
        '"x": 172.18.0.8:4500[+S?C]...172.18.0.7:4500[+S?C]; routed-ondemand; my_ip=unset;',
        Side("172.18.0.8", 4500, "172.18.0.8/32", None, None),
        Side("172.18.0.7", 4500, "172.18.0.7/32", None, None),
    ),
    "VXLAN over IPv6": (
        '000 "x": 2001:db8::8/128:UDP/4789===[2001:db8::8]:4500[+S?C]...[2001:db8::7]:4500[+S?C]'
        "===2001:db8::7/128:UDP/0-65535; prospective erouted; eroute owner: #0",
        Side("2001:db8::8", 4500, "2001:db8::8/128", "UDP", 4789),
        Side("2001:db8::7", 4500, "2001:db8::7/128", "UDP", None),
    ),
}


@pytest.mark.parametrize("name", LINES)
def test_selectors_of_every_mode_and_overlay(name: str) -> None:
    line, local, remote = LINES[name]
    (found,) = pluto.parse_connections(line, "").values()
    assert found.selectors == Selectors(local, remote)
    assert found.routed == (not name.startswith("server"))


def test_an_instance_counts_as_its_connection() -> None:
    template = LINES["server"][0]
    instance = template.replace('"x"', '"x"[1]').replace("%any", "172.18.0.7:4500")
    traffic = (
        '006 #4: "x"[1] 172.18.0.7, type=ESP, add_time=1795489788, inBytes=0, outBytes=0,'
        " maxBytes=2^63B, id='@172.18.0.7-0-0'"
    )
    for status in (f"{template}\n{instance}", f"{instance}\n{template}"):
        (found,) = pluto.parse_connections(status, traffic).values()
        assert found.up
        assert found.selectors
        assert found.selectors.remote.host is None


def test_an_ike_port_that_was_not_told_is_plutos_to_choose() -> None:
    side = Side("172.18.0.7", 4500, "10.45.0.0/16", None, None)
    untold = Side("172.18.0.7", None, "10.45.0.0/16", None, None)
    other = Side("172.18.0.7", 500, "10.45.0.0/16", None, None)
    assert pluto.same(Selectors(side, side), Selectors(untold, side))
    assert not pluto.same(Selectors(side, side), Selectors(side, other))
