"""What pluto of every release printed: connections of cables and of others, and unoriented ones."""

import re

import pytest

from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import Ike, LoadedConnection, Side
from cablectl.libreswan.refusal import is_unoriented, parse_refusal
from tests.support.captures import NAMES, blocks, by_release
from tests.support.examples import load
from tests.support.places import CAPTURES

CONNECTIONS = by_release("connections")
UNORIENTED = by_release("unoriented")
UP = by_release("up")
STATUS = "ipsec whack --status"
CABLE = "submariner-cable-cluster2"


@pytest.fixture(params=CONNECTIONS)
def loaded(request: pytest.FixtureRequest) -> dict[str, LoadedConnection]:
    ((_, status),) = CONNECTIONS[request.param]
    return pluto.parse_connections(status, "")


def transport(local: str, remote: str, protocol: str | None, *ports: int | None) -> list[Side]:
    bits = 128 if ":" in local else 32
    return [
        Side(host, 4500, f"{host}/{bits}", protocol, port)
        for host, port in zip((local, remote), ports or (None, None), strict=True)
    ]


OURS = {
    "172-18-0-7-0": transport("172.18.0.8", "172.18.0.7", "UDP", 4789, None),
    "172-18-0-7-1": transport("172.18.0.8", "172.18.0.7", "UDP", None, 4789),
    "172-18-0-9-0": transport("172.18.0.8", "172.18.0.9", "GRE"),
    "172-18-0-10-0": transport("172.18.0.8", "172.18.0.10", "IPV4"),
    "172-18-0-11-0": transport("172.18.0.8", "172.18.0.11", None),
    "172-18-0-12-0-0": [
        Side("172.18.0.8", 4500, "10.44.0.0/16", None, None),
        Side("172.18.0.12", 4500, "10.45.0.0/16", None, None),
    ],
    "172-18-0-13-0-0": [
        Side("172.18.0.8", 4500, "10.44.0.0/16", None, None),
        Side(None, None, "10.46.0.0/16", None, None),
    ],
    "2001-db8--7-0": transport("2001:db8::8", "2001:db8::7", "UDP", 4789, None),
}


def test_selectors_of_cables(loaded: dict[str, LoadedConnection]) -> None:
    for name, sides in OURS.items():
        selectors = loaded[f"{CABLE}-{name}"].selectors
        assert selectors
        assert [selectors.local, selectors.remote] == sides, name


def test_only_cables_are_taken_for_cables(loaded: dict[str, LoadedConnection]) -> None:
    assert len(loaded) > len(OURS) + 3
    assert sum(map(len, pluto.cables(loaded).values())) == len(OURS)
    assert all(name.startswith(CABLE) for name in pluto.cables(loaded))


def test_what_is_routed_and_negotiates(loaded: dict[str, LoadedConnection]) -> None:
    routed = {name for name, each in loaded.items() if each.routed}
    assert routed == {f"{CABLE}-172-18-0-7-0", "branch office"}
    negotiating = {name for name, each in loaded.items() if each.ike is Ike.NEGOTIATING}
    assert negotiating == {f"{CABLE}-172-18-0-7-1", "hop"}
    assert not any(each.up or each.unoriented for each in loaded.values())


def test_a_next_hop_hides_no_address(loaded: dict[str, LoadedConnection]) -> None:
    selectors = loaded["hop"].selectors
    assert selectors
    assert [selectors.local.host, selectors.remote.host] == ["172.18.0.8", "172.18.0.21"]


def test_an_ipv6_address_without_a_port_is_whole(loaded: dict[str, LoadedConnection]) -> None:
    selectors = loaded["ipv6-without-port"].selectors
    assert selectors
    assert selectors.remote == Side("2001:db8::21", None, "2001:db8::21/128", None, None)


def test_a_short_last_group_of_an_ipv6_address_is_no_port() -> None:
    """Up to 4.5 a port may follow an address without brackets; whack's ports have more digits."""
    line = '000 "x": 2001:db8::1:21[+S?C]...2001:db8::8:4500[+S?C]; unrouted; eroute owner: #0'
    (found,) = pluto.parse_connections(line, "").values()
    assert found.selectors
    assert (found.selectors.local.host, found.selectors.local.ike_port) == ("2001:db8::1:21", None)
    assert (found.selectors.remote.host, found.selectors.remote.ike_port) == ("2001:db8::8", 4500)


@pytest.mark.parametrize("release", [it for it in CONNECTIONS if it.startswith("5.")])
def test_a_connection_with_several_subnets_is_no_cables(release: str) -> None:
    ((_, status),) = CONNECTIONS[release]
    name = f"{CABLE}-172-18-0-24-0-0"
    found = pluto.parse_connections(status.replace("subnets", name), "")
    several = found[name]
    assert several.selectors
    assert not several.joins(several.selectors)
    assert pluto.cable_of(name, several) == ""
    assert pluto.cable_of(f"{CABLE}-172-18-0-12-0-0", found[f"{CABLE}-172-18-0-12-0-0"])


@pytest.mark.parametrize("release", UNORIENTED)
class TestUnoriented:
    def test_until_pluto_finds_the_address(self, release: str) -> None:
        found = [
            pluto.parse_connections(output, "")[f"{CABLE}-172-18-0-7-0"]
            for command, output in UNORIENTED[release]
            if command == STATUS
        ]
        assert [(it.unoriented, it.routed) for it in found] == [
            (True, False),
            (False, False),
            (False, True),
        ]
        assert all(it.selectors and it.selectors.local.host == "172.18.0.88" for it in found)

    def test_route_and_initiate_say_so(self, release: str) -> None:
        refused = [
            output
            for command, output in UNORIENTED[release]
            if re.match("ipsec whack --(?:route|initiate)", command) and output
        ]
        assert len(refused) == 2
        for output in refused:
            refusal = parse_refusal(output)
            assert is_unoriented(output)
            assert refusal
            assert "172.18.0.8" not in refusal.reason
            assert "neither of the connection's addresses" in refusal.reason


@pytest.mark.parametrize("release", [it for it in UNORIENTED if it.startswith("5.")])
def test_a_nic_without_offload(release: str) -> None:
    outputs = dict(UNORIENTED[release])
    (added,) = [output for command, output in outputs.items() if "--nic-offload" in command]
    refusal = parse_refusal(added)
    assert refusal
    assert refusal.reason.startswith("eth0 has no ESP offload")
    assert "offload: auto" in refusal.remedy
    assert pluto.parse_connections(outputs[STATUS], "")[f"{CABLE}-172-18-0-9-0"].unoriented


@pytest.fixture(params=[*UP, "5.3.2", "5.4"])
def up(request: pytest.FixtureRequest) -> tuple[str, str]:
    """What --status and --trafficstatus printed."""
    if request.param in UP:
        (_, status), (_, traffic) = UP[request.param]
    else:
        (status,) = blocks(request.param, STATUS)
        (traffic,) = blocks(request.param, "ipsec whack --trafficstatus")
    return status, traffic


class TestUp:
    """The cable of the quick start, up between two gateways."""

    def test_up_and_routed(self, up: tuple[str, str]) -> None:
        found = pluto.parse_connections(*up)
        assert set(found) == set(NAMES)
        owner, other = (found[name] for name in NAMES)
        assert [(it.up, it.routed, it.unoriented, it.lost) for it in (owner, other)] == [
            (True, True, False, False)
        ] * 2
        assert {owner.ike, other.ike} == {Ike.ESTABLISHED, Ike.NONE}
        (parent,) = [name for name in NAMES if found[name].ike is Ike.ESTABLISHED]
        assert {owner.ike_of, other.ike_of} == {parent}
        for connection in load("quickstart").connections:
            assert found[connection.name].selectors == pluto.selectors(connection)
        for sa in (*owner.child_sas, *other.child_sas):
            assert sa.bytes_in + sa.bytes_out > 0
            assert sa.rekey_in
            assert 28000 < sa.rekey_in < 28800
            assert re.fullmatch("0x[0-9a-f]{8}", sa.spi_in)
            assert sa.spi_in != sa.spi_out

    def test_without_its_ike_sa_it_is_down(self, up: tuple[str, str]) -> None:
        status, traffic = up
        gone = re.sub(r"(?m)^(?:000 )?#1: [^\n]*established IKE SA[^\n]*\n", "", status)
        assert gone != status
        found = pluto.parse_connections(gone, traffic)
        assert [(it.up, it.ike_of) for it in found.values()] == [(False, "")] * 2

    @pytest.mark.parametrize("release", ["5.3.2", "5.4"])
    def test_showstates_says_the_same_as_status(self, release: str) -> None:
        (status,), (states,) = blocks(release, STATUS), blocks(release, "ipsec whack --showstates")
        assert pluto.parse_parents(states) == pluto.parse_parents(status)
        assert pluto.parse_ike(states) == pluto.parse_ike(status)

    @pytest.mark.parametrize("release", ["5.3.2", "5.4"])
    def test_where_it_listens(self, release: str) -> None:
        (status,) = blocks(release, STATUS)
        assert {"172.18.0.8:4500", "[2001:db8::8]:500"} <= set(pluto.parse_listening(status))

    @pytest.mark.parametrize("release", ["5.3.2", "5.4"])
    def test_the_log_has_no_refusal(self, release: str) -> None:
        (log,) = blocks(release, "cat /run/pluto/pluto.log")
        assert "established Child SA" in log
        assert parse_refusal(log) is None


@pytest.mark.parametrize("capture", ["exit-codes-5.3.2", "exit-codes-5.4", "4.6", "pfs-two-esp"])
def test_only_the_nic_is_a_refusal_among_the_exit_codes(capture: str) -> None:
    """The other commands fail for what is wrong with their own options."""
    text = (CAPTURES / f"whack-{capture}.txt").read_text()
    found = [
        (command, refusal.reason)
        for command, output in re.findall(r"(?ms)^\$ ([^\n]*)\n(.*?)(?=^\$ |\Z)", text)
        if (refusal := parse_refusal(output))
    ]
    expected = ["eth0 has no ESP offload, so pluto doesn't use it for this connection"]
    assert [reason for _, reason in found] == (expected if "exit-codes" in capture else [])
    assert all("--nic-offload yes" in command for command, _ in found)
    assert all(each.selectors for each in pluto.parse_connections(text, "").values())
