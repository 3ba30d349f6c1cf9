"""From what a cable leaves on a host back to the cable: the very one that the file describes."""

from ipaddress import ip_address, ip_network

import pytest
from msgspec.structs import replace

from cablectl.facts import traces
from cablectl.facts.host_facts import Facts, Link
from cablectl.libreswan import pluto
from cablectl.linux import guard
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.wishes import Forwarding, Geneve, Gre, Ipip, Mode, OverlayWish, Vxlan
from cablectl.status.report import Verdict
from tests.support.alive import alive, seen
from tests.support.documents import SHAPES, shaped

ENCRYPTED = [shape for shape in SHAPES if not shape.startswith("none")]
OTHER = Link("vxlan", "0", "3e:11:22:33:44:55", 1450, True, {"id": 1, "port": 8472})


def traced(cable: Cable, facts: Facts) -> Cable:
    links = {"lo": Link("", "0", "", 65536, True), "flannel.1": OTHER}
    if cable.overlay and facts.overlay.link:
        links[cable.overlay.device] = facts.overlay.link
    ((name, connections),) = pluto.cables(facts.connections).items()
    assert name == cable.remote.cable_name
    found = traces.cable(name, connections, links)
    assert found
    return found


def summary(connection: Connection) -> tuple[object, ...]:
    ends = (connection.local, connection.remote)
    told = ((end.host, end.network, end.protocol, end.port_number) for end in ends)
    return (connection.name, connection.mode, *told)


def unflooded(wanted: OverlayWish) -> OverlayWish:
    """Return it as its traces tell: whether frames are flooded they don't."""
    if not isinstance(wanted, Vxlan):
        return wanted
    return replace(wanted, forwarding=Forwarding.STATIC)


@pytest.mark.parametrize("end", ["cluster1", "cluster2"])
@pytest.mark.parametrize("shape", ENCRYPTED)
def test_every_shape(shape: str, end: str) -> None:
    cable = shaped(shape, end)
    facts = alive(cable)
    found = traced(cable, facts)
    assert (found.id, found.mode) == (cable.id, cable.mode)
    assert found.remote.cluster == cable.remote.cluster
    assert list(map(summary, found.connections)) == list(map(summary, cable.connections))
    assert guard.is_intact(found, guard.made(cable))
    if cable.overlay:
        assert found.overlay
        assert found.overlay == unflooded(cable.overlay)
        assert (found.local_vtep, found.remote_vtep) == (cable.local_vtep, cable.remote_vtep)
        assert set(overlay_of(found.overlay).fdb_entries(found)) <= set(
            overlay_of(cable.overlay).fdb_entries(cable)
        )
    assert seen(found, facts) == (Verdict.UP, ())


def test_what_a_file_may_have_otherwise() -> None:
    """Another port, VNI, device, IKE port and network of VTEPs than the usual ones."""
    cable = shaped("transport vxlan v4")
    assert isinstance(cable.overlay, Vxlan)
    other = replace(
        cable,
        local=replace(cable.local, ike_port=4501),
        overlay=replace(cable.overlay, port=4790, vni=7, device="over"),
        vtep_network=ip_network("10.200.0.0/16"),
    )
    found = traced(other, alive(other))
    assert other.overlay
    assert found.overlay == unflooded(other.overlay)
    assert found.local_vtep == other.local_vtep
    assert found.connections[0].local.ike_port == 4501
    assert guard.is_intact(found, guard.made(other))


def test_addresses_of_others_on_the_device_tell_nothing() -> None:
    cable = shaped("transport vxlan v4")
    facts = alive(cable)
    assert facts.overlay.link
    link = replace(facts.overlay.link, addresses=frozenset({"10.9.0.1/24", "fe80::1/64"}))
    facts = replace(facts, overlay=replace(facts.overlay, link=link))
    found = traced(cable, facts)
    assert found.local_vtep == cable.local_vtep
    assert seen(found, facts)[1] == ("vxlan-tunnel has no address 241.18.0.8/8",)


@pytest.mark.parametrize(
    ("shape", "kind"),
    [
        ("transport vxlan v4", Vxlan),
        ("transport geneve v6", Geneve),
        ("transport gre v4", Gre),
        ("transport ipip v6", Ipip),
    ],
)
def test_without_its_device_it_is_missed(shape: str, kind: type[OverlayWish]) -> None:
    cable = shaped(shape)
    facts = replace(alive(cable), overlay=replace(alive(cable).overlay, link=None))
    found = traced(cable, facts)
    assert isinstance(found.overlay, kind)
    verdict, reasons = seen(found, facts)
    assert verdict is Verdict.DEGRADED
    assert reasons == (f"the device {found.overlay.device} is missing",)


def test_somebody_elses_device_on_its_port_is_the_foreign_one() -> None:
    cable = shaped("transport vxlan v4")
    facts = alive(cable)
    assert facts.overlay.link
    theirs = replace(facts.overlay, link=replace(facts.overlay.link, group="0"))
    facts = replace(facts, overlay=theirs)
    verdict, reasons = seen(traced(cable, facts), facts)
    assert verdict is Verdict.FOREIGN
    assert reasons == ("the device vxlan-tunnel exists, but cablectl didn't make it",)


def test_of_two_devices_that_fit_it_is_our_own() -> None:
    cable = shaped("transport vxlan v4")
    facts = alive(cable)
    ours = facts.overlay.link
    assert ours
    ((name, connections),) = pluto.cables(facts.connections).items()
    for order in (("theirs", "ours"), ("ours", "theirs")):
        links = {each: replace(ours, group="241" if each == "ours" else "0") for each in order}
        found = traces.cable(name, connections, links)
        assert found
        assert found.overlay
        assert found.overlay.device == "ours"


def test_a_connection_that_is_missing_is_missed() -> None:
    """As long as others tell its subnets; else the cable can't be told."""
    cable = shaped("tunnel v4")
    facts = alive(cable)
    first, second = facts.connections
    alone = replace(facts, connections={first: facts.connections[first]})
    assert [each.name for each in traced(cable, alone).connections] == [first]
    ((name, connections),) = pluto.cables({second: facts.connections[second]}).items()
    assert traces.cable(name, connections, {}) is None


@pytest.mark.parametrize(
    "name",
    [
        "submariner-cable-",
        "submariner-cable-0",
        "submariner-cable-cluster2",
        "submariner-cable-cluster2-172-18-0",
        "submariner-cable-cluster2-172-18-0-700",
    ],
)
def test_a_name_that_holds_no_address(name: str) -> None:
    """The peer may be anywhere, so nothing else tells its address."""
    server = shaped("tunnel v4 server", "cluster2").connections
    assert traces.cable(name, server, {}) is None


def test_a_cluster_may_have_dashes_and_dots() -> None:
    cable = shaped("tunnel v6")
    odd = replace(cable, remote=replace(cable.remote, cluster="east.eu-west-1"))
    found = traced(odd, alive(odd))
    assert (found.remote.cluster, found.id) == ("east.eu-west-1", odd.id)
    assert found.mode is Mode.TUNNEL
    assert found.remote.address == ip_address("2001:db8::7")
