"""Which addresses the gateways of a file have for each other: sites, NAT, equal addresses."""

import pytest

from cablectl.config import native
from cablectl.errors import UsageError
from cablectl.facts import traces
from cablectl.libreswan import pluto
from cablectl.linux import guard
from cablectl.model.cable import Cable
from cablectl.model.network import Network

OFFICE = "public_address: 203.0.113.1, site: office"


def network(*endpoints: str, mode: str = "tunnel", overlay: str = "none") -> Network:
    """Return a network of endpoints `c0`, `c1` and so on, each with the fields given."""
    lines = ["version: 1", f"mode: {mode}", f"overlay: {overlay}", "endpoints:"]
    for i, fields in enumerate(endpoints):
        lines += [f"- {{cluster: c{i}, hostname: h{i}, subnets: [10.{i}.0.0/16], {fields}}}"]
    return native.parse("\n".join(lines), "x")


def cable(given: Network, local: str, remote: str) -> Cable:
    (found,) = given.cables(given.named(local), [given.named(remote)])
    return found


def test_a_site_decides_which_address_is_reached() -> None:
    given = network(
        "address: 192.168.0.4, ike_port: 4501, " + OFFICE,
        "address: 192.168.0.5, ike_port: 4502, " + OFFICE,
        "address: 198.51.100.1",
    )
    within, across = cable(given, "c0", "c1"), cable(given, "c2", "c1")
    assert (str(within.remote_host), within.nat) == ("192.168.0.5", False)
    assert (str(across.remote_host), across.nat) == ("203.0.113.1", True)
    assert {each.remote.ike_port for each in across.connections} == {4502}
    assert within.initiates != cable(given, "c1", "c0").initiates


def test_gateways_of_one_site_may_have_transport_mode() -> None:
    given = network(
        "address: 192.168.0.4, " + OFFICE,
        "address: 192.168.0.5, " + OFFICE,
        mode="transport",
        overlay="gre",
    )
    assert str(cable(given, "c0", "c1").remote_underlay) == "192.168.0.5"


CLOUDS = [f"address: 10.9.0.4, public_address: 203.0.113.{number}" for number in (1, 2, 3)]


def test_equal_addresses_get_vteps_of_their_own() -> None:
    given = network(*CLOUDS, overlay="vxlan")
    ends = [cable(given, f"c{i}", f"c{(i + 1) % 3}") for i in range(3)]
    assert len({each.local_vtep for each in ends}) == 3
    assert len({each.local_underlay for each in ends}) == 3
    assert len({each.mac_of(each.local) for each in ends}) == 3
    for i, each in enumerate(ends):
        other = cable(given, f"c{(i + 1) % 3}", f"c{i}")
        assert (each.remote_vtep, each.remote_underlay) == (other.local_vtep, other.local_underlay)
        assert each.initiates != other.initiates
    assert str(ends[0].local_vtep) == "241.9.0.4/8", "the first one keeps its own"
    # An endpoint more at the end of the file changes nothing for the others.
    fewer = network(*CLOUDS[:2], overlay="vxlan")
    assert cable(fewer, "c0", "c1").remote_vtep == ends[0].remote_vtep


def test_of_two_endpoints_with_its_address_a_host_is_the_one_with_its_name() -> None:
    given, held = network(*CLOUDS), frozenset({"10.9.0.4"})
    for name in ("h1", "h1.example.com"):
        assert [end.cluster for end in given.held_by(held, name)] == ["c1"]
    assert len(given.held_by(held, "elsewhere")) == 3
    assert len(network("address: 10.9.0.4", "address: 10.9.0.5").held_by(held, "h1")) == 1


def test_equal_addresses_between_subnets_have_names_as_identities() -> None:
    given = network(*CLOUDS)
    assert cable(given, "c0", "c1").identities == (("10.9.0.4", "@c1"),)
    assert cable(given, "c1", "c2").identities == (("@c1", "@c2"),)


def test_an_address_of_two_endpoints_names_neither() -> None:
    given = network(*CLOUDS)
    with pytest.raises(UsageError, match=r"'10.9.0.4': more than one endpoint has that address"):
        given.named("10.9.0.4")
    assert given.named("h1").cluster == "c1"


def test_a_twin_is_recognised_without_a_file() -> None:
    given = network(*CLOUDS[:2], overlay="gre")
    for local, remote in (("c0", "c1"), ("c1", "c0")):
        wanted = cable(given, local, remote)
        found = traces.cable(wanted.remote.cable_name, wanted.connections, {})
        assert found
        assert found.connections[0].local.network == wanted.connections[0].local.network
        assert found.remote_underlay == wanted.remote_underlay


def test_the_guard_of_a_host_of_unknown_end_has_every_address() -> None:
    given = network(*CLOUDS, overlay="vxlan")
    (carried,) = (each for each in guard.unlocated(given).sets if each.name == "carried")
    for i in range(3):
        each = cable(given, f"c{i}", f"c{(i + 1) % 3}")
        assert {str(each.local_vtep.ip), str(each.local_underlay)} <= set(carried.elements)


def test_pluto_prints_one_number_after_the_name_of_an_overlays_cable() -> None:
    wanted = cable(network(*CLOUDS[:2], overlay="vxlan"), "c0", "c1")
    for connection in wanted.connections:
        loaded = pluto.LoadedConnection(True, True, pluto.selectors(connection))
        assert pluto.cable_of(connection.name, loaded) == wanted.remote.cable_name
