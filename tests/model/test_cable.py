"""A cable as each of its ends sees it: the two views fit together."""

import pytest

from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable, Role
from cablectl.plan import connect_plan
from tests.support.documents import MESHES, SHAPES, meshed
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
    if one.overlay and other.overlay:
        assert one.local_vtep == other.remote_vtep
        assert one.local_vtep.ip != one.remote_vtep.ip
        assert overlay_of(other.overlay).fdb_entries(other)[:1] in (
            (),
            ((one.mac_of(one.local), str(one.local_underlay)),),
        )
        sizes = [connect_plan.overlay_mtu(c, BLANK, c.overlay) for c in (one, other) if c.overlay]
        assert sizes[0] == sizes[1]
