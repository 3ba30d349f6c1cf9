"""Parsers, held against what both daemons really printed."""

import re

import pytest

from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import Ike, Selectors, Shunt, Side
from cablectl.libreswan.refusal import parse_refusal
from tests.support.captures import NAMES, States, blocks
from tests.support.examples import load
from tests.support.places import CAPTURES


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


@pytest.fixture(params=["4.10", "5.2"])
def states(request: pytest.FixtureRequest) -> States:
    return States(request.param)


@pytest.fixture
def older() -> States:
    return States("4.10")


class TestChildSas:
    def test_whose_bytes_and_which_way(self, states: States) -> None:
        first, second = states["up, after pings"].connections.values()
        assert [(sa.bytes_in, sa.bytes_out) for sa in first.child_sas] == [(824, 0)]
        assert [(sa.bytes_in, sa.bytes_out) for sa in second.child_sas] == [(0, 824)]
        for each in (first, second):
            (sa,) = each.child_sas
            assert 1795547990 < sa.added < 1795548200
            assert sa.rekey_in == pytest.approx(28520, abs=2)  # not REPLACE, which comes later

    def test_spis_in_and_out(self, older: States) -> None:
        """Held against what the kernel had: in is the SA whose destination is this host."""
        first, _ = older["up, after pings"].connections.values()
        (sa,) = first.child_sas
        assert (sa.serial, sa.spi_in, sa.spi_out) == (3, "0x7027bc6f", "0x35f1339d")

    def test_an_spi_may_begin_with_zeros(self) -> None:
        server = States("5.2")["a server: instances of a connection to any host"]
        spis = [sa.spi_out for each in server.connections.values() for sa in each.child_sas]
        assert spis == ["0x1c9bd4ae", "0x07c491a6"]

    def test_ipv6_and_many_bytes(self, states: States) -> None:
        (gre,) = states["GRE over IPv6, after 100 pings"].connections.values()
        (sa,) = gre.child_sas
        assert (sa.bytes_in, sa.bytes_out) == (135600, 135600)
        assert re.fullmatch("0x[0-9a-f]{8}", sa.spi_in)
        assert re.fullmatch("0x[0-9a-f]{8}", sa.spi_out)
        assert gre.ike is Ike.ESTABLISHED

    def test_which_one_pluto_sends_with(self, states: States) -> None:
        """Of two that were negotiated at once, it may be the one with the lower number."""
        status, traffic = states.texts["up, after pings"]
        name, serial, older = next(
            (name, sa.serial, sa.serial + 90)
            for name, each in states["up, after pings"].connections.items()
            for sa in each.child_sas
        )
        mark = rf'#{serial}: "{name}"'
        status += "".join(
            line.replace(f"#{serial}:", f"#{older}:").replace(" newest;", "") + "\n"
            for line in status.splitlines()
            if mark in line
        )
        traffic += next(
            line.replace(f"#{serial}:", f"#{older}:") + "\n"
            for line in traffic.splitlines()
            if mark in line
        )
        sas = pluto.parse_child_sas(status, traffic)[name]
        assert [(sa.serial, sa.newest) for sa in sas] == [(older, False), (serial, True)]

    def test_a_connection_without_one(self, older: States) -> None:
        """The other one has an SA and no IKE SA of its own, this one has the IKE SA alone."""
        first, second = older["connection 1 terminated"].connections.values()
        assert (first.up, first.ike, len(first.child_sas)) == (True, Ike.NONE, 1)
        assert (second.up, second.ike, second.child_sas) == (False, Ike.ESTABLISHED, ())
        assert second.routed

    def test_negotiating(self, states: States) -> None:
        for title in ("routed, the peer has no such connection", "the same, a packet met the trap"):
            (each,) = states[title].connections.values()
            assert (each.up, each.ike, each.routed) == (False, Ike.NEGOTIATING, True)

    def test_instances_count_as_their_connection(self, states: States) -> None:
        server = states["a server: instances of a connection to any host"].connections
        assert [(each.up, each.ike, each.routed) for each in server.values()] == [
            (True, Ike.ESTABLISHED, False)
        ] * 2
        assert all(sa.spi_in and sa.rekey_in for each in server.values() for sa in each.child_sas)

    def test_what_the_kernel_does_not_have_is_not_up(self, states: States) -> None:
        """One of the two SAs deleted, then all flushed: seen on both releases."""
        status, traffic = states.texts["up, after pings"]
        one = re.sub(", inBytes=824(?=, outBytes=0,)", "", traffic)
        both = re.sub(r"add_time=(\d+),.*, id", r"add_time=\1, id", traffic)
        for text, lost in ((traffic, [False, False]), (one, [True, False]), (both, [True, True])):
            found = pluto.parse(status, text).connections.values()
            assert [each.lost for each in found] == lost
            assert [each.up for each in found] == [not each for each in lost]
            assert len(pluto.parse_established(text)) == lost.count(False)

    def test_a_child_sa_without_its_ike_sa_is_not_up(self, states: States) -> None:
        """The peer was told that the IKE SA went, and has let go of its Child SAs."""
        status, traffic = states.texts["up, after pings"]
        (owner,) = [
            line.split('"')[1] for line in status.splitlines() if "(established IKE SA)" in line
        ]
        found = pluto.parse(status, traffic).connections.values()
        assert [(each.ike_of, each.up) for each in found] == [(owner, True)] * 2
        orphaned = "\n".join(
            line for line in status.splitlines() if "(established IKE SA)" not in line
        )
        found = pluto.parse(orphaned, traffic).connections.values()
        assert [(each.ike_of, each.up) for each in found] == [("", False)] * 2

    def test_the_newest_is_the_last(self) -> None:
        line = "#{}: \"x\", type=ESP, add_time={}, inBytes=1, outBytes=2, maxBytes=2^63B, id='y'"
        traffic = "\n".join(line.format(number, 100 + number) for number in (12, 7, 9))
        sas = pluto.parse_child_sas("", traffic)["x"]
        assert [(sa.serial, sa.added) for sa in sas] == [(7, 107), (9, 109), (12, 112)]
        assert {(sa.spi_in, sa.spi_out, sa.rekey_in) for sa in sas} == {("", "", None)}


def test_bare_shunts(older: States) -> None:
    assert older["up, after pings"].shunts == ()
    hold = Shunt("172.18.0.7/32", "172.18.0.8/32", "hold")
    assert older["the same, a packet met the trap"].shunts == (hold,)
    # As 5.1 is said to print one: https://github.com/libreswan/libreswan/issues/2136
    line = "10.106.208.1/32 -0-> 10.106.208.2/32 => %pass    oe-failing"
    assert pluto.parse_shunts(line) == (Shunt("10.106.208.1/32", "10.106.208.2/32", "pass"),)


def test_the_algorithms_of_a_connection_are_those_of_its_parser() -> None:
    """As 4.10 and 5.2 print them of `esp: [aes256-sha2_256, aes_gcm]`; none are its defaults."""
    told = "algparse -v2 -pfs 'esp=…'\n\tAES_CBC_256-HMAC_SHA2_256_128\n\tAES_GCM_16-NONE\n"
    for number in ("000 ", ""):
        line = f'{number}"x": 172.18.0.8...172.18.0.7; unrouted; eroute owner: #0'
        algorithms = "AES_CBC_256-HMAC_SHA2_256_128, AES_GCM_16-NONE"
        status = f'{line}\n{number}"x":   ESP algorithms: {algorithms}\n'
        loaded = pluto.parse_connections(status, "")["x"]
        assert loaded.esp == pluto.parse_algorithms(told) == tuple(algorithms.split(", "))
        assert pluto.parse_connections(line, "")["x"].esp == ()


def test_only_esp_counts() -> None:
    line = "006 #3: \"x\", type={}, add_time=1795438861, inBytes=0, outBytes=0, id='172.18.0.7'"
    assert pluto.parse_established(line.format("ESP")) == {"x"}
    assert pluto.parse_established(line.format("AH")) == frozenset()


def test_the_reason_of_a_refusal() -> None:
    # The one for whom the keys differ; the capture of 4.10 has no refusal.
    text = (CAPTURES / "libreswan-5.2.txt").read_text().partition("##### wrong PSK")[2]
    refusal = parse_refusal(text)
    assert refusal
    assert refusal.reason == "authentication failed"
    assert "AUTHENTICATION_FAILED" in refusal.line
    assert parse_refusal("#2: retransmission; will wait 1 seconds") is None


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('003 "x" #4: IKE_AUTH response rejected Child SA with TS_UNACCEPTABLE', "selectors"),
        ('"x" #6: CREATE_CHILD_SA failed with error notification NO_PROPOSAL_CHOSEN', "proposals"),
        ('"x": we cannot identify ourselves with either end of this connection', "addresses"),
        ("003 need --listen before --initiate", "listen"),
        ('"x" #2: ERROR: netlink response for Add SA esp.1@172.18.0.7 included errno 38', "SA"),
    ],
)
def test_every_reason_has_words_and_a_way_out(line: str, reason: str) -> None:
    refusal = parse_refusal(f"181 before\n{line}\nafter")
    assert refusal
    assert reason in refusal.reason
    assert refusal.line == line
    assert refusal.remedy


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
    states = (
        '000 #3: "x"[1] 172.18.0.7:4500 STATE_V2_ESTABLISHED_IKE_SA (established IKE SA); idle;\n'
        '000 #4: "x"[1] 172.18.0.7:4500 STATE_V2_ESTABLISHED_CHILD_SA (established Child SA);'
        " newest; eroute owner; IKE SA #3; idle;"
    )
    for lines in (f"{template}\n{instance}", f"{instance}\n{template}"):
        status = f"{lines}\n{states}"
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


@pytest.mark.parametrize("release", ["4.10", "5.2"])
def test_where_it_listens(release: str) -> None:
    status = blocks(release, "ipsec whack --status")[0]
    ports = ("127.0.0.1:4500", "127.0.0.1:500", "172.18.0.8:4500", "172.18.0.8:500")
    assert pluto.parse_listening(status) == ports


@pytest.mark.parametrize(
    "line",
    ["000 interface eth0 UDP [2001:db8::8]:500", "interface eth0 [2001:db8::8]:UDP/500 (NAT)"],
)
def test_where_it_listens_by_ipv6(line: str) -> None:
    assert pluto.parse_listening(line) == ("[2001:db8::8]:500",)


def test_of_several_reasons_the_most_telling() -> None:
    """What 5.2 logged with a peer in tunnel mode: the reason, then what follows from it."""
    logged = (
        '"x" #2: policy dictates Transport Mode, but peer requested Tunnel Mode\n'
        '"x" #2: CHILD SA failed: NO_PROPOSAL_CHOSEN\n'
        '"x" #3: policy dictates Transport Mode, but peer requested Tunnel Mode\n'
        '"x" #4: responding to CREATE_CHILD_SA message with encrypted notification TS_UNACCEPTABLE'
    )
    refusal = parse_refusal(logged)
    assert refusal
    assert refusal.reason == "one end is in transport mode, the other in tunnel mode"
    assert refusal.line == logged.splitlines()[2]
