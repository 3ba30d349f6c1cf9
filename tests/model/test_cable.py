"""A cable as each of its ends sees it: the two views fit together."""

from ipaddress import ip_address

import pytest
from msgspec.structs import replace

from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable, Role
from cablectl.plan import connect_plan
from tests.support.documents import MESHES, SHAPES, meshed, shaped
from tests.support.examples import load_all
from tests.support.plans import BLANK

PAIRS = (("cluster1", "cluster2"), ("cluster2", "cluster3"), ("cluster3", "cluster1"))


@pytest.mark.parametrize(
    ("shape", "pair"),
    [
        *((shape, PAIRS[0]) for shape in (*SHAPES, "quickstart")),
        *((shape, pair) for shape in MESHES for pair in PAIRS),
    ],
)
def test_two_plans_mirror_each_other(shape: str, pair: tuple[str, str]) -> None:
    """What one end selects the other does too, with local and remote changed."""

    def of(end: str, peer: str) -> Cable:
        cables = load_all(shape, end) if shape == "quickstart" else meshed(shape, end)
        (cable,) = (each for each in cables if each.remote.cluster == peer)
        return cable

    one, other = of(*pair), of(*pair[::-1])

    def selected(cable: Cable, *, mirrored: bool) -> set[tuple[object, ...]]:
        found: set[tuple[object, ...]] = set()
        for each in cable.connections:
            local, remote = each.local, each.remote
            ends = (remote, local) if mirrored else (local, remote)
            found.add(tuple((e.network, e.identity, e.protocol, e.port) for e in ends))
        return found

    assert selected(one, mirrored=False) == selected(other, mirrored=True)
    assert len({each.name for each in one.connections}) == len(one.connections)
    assert {pair[::-1] for pair in one.identities} == set(other.identities)
    assert one.encapsulation == other.encapsulation
    if one.connections:
        assert one.initiates != other.initiates
    for here, there in ((one, other), (other, one)):
        for each in here.connections:
            reached = there.local.public_address if here.nat else None
            assert each.local.host == here.local.address
            assert each.remote.host in (None, reached or there.local.address)
    roles = {Role.SERVER: Role.CLIENT, Role.CLIENT: Role.SERVER}
    assert other.role == roles.get(one.role, one.role)
    if one.echo_ends and other.echo_ends:
        assert one.echo_ends == other.echo_ends[::-1]
    assert (one.echo_ends is None) == one.joins_subnets  # without a health_address
    if one.overlay and other.overlay:
        assert one.echo_ends == (one.local_vtep.ip, one.remote_vtep.ip)
        assert one.local_vtep == other.remote_vtep
        assert one.local_vtep.ip != one.remote_vtep.ip
        assert overlay_of(other.overlay).fdb_entries(other)[:1] in (
            (),
            ((one.mac_of(one.local), str(one.local_underlay)),),
        )
        sizes = [connect_plan.overlay_mtu(c, BLANK, c.overlay) for c in (one, other) if c.overlay]
        assert sizes[0] == sizes[1]


def test_echoes_between_subnets_go_between_the_named_addresses() -> None:
    here, there = ip_address("10.44.0.1"), ip_address("10.45.0.1")
    cable = shaped("tunnel v4")
    local = replace(cable.local, health_address=here)
    remote = replace(cable.remote, health_address=there)
    assert replace(cable, local=local, remote=remote).echo_ends == (here, there)
    assert replace(cable, local=local).echo_ends is None
    assert replace(cable, remote=remote).echo_ends is None
    hosts = shaped("transport none v4")
    assert hosts.echo_ends == (hosts.local.address, hosts.remote.address)
