"""A peer's cluster has another gateway now: what connect and teardown do with the old one."""

import pytest
from msgspec.structs import replace

from cablectl.facts import partition
from cablectl.facts.earlier_gateways import EarlierGateway, cable_to
from cablectl.facts.host_facts import Facts
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Change, Phase, Plan
from cablectl.status.report import Verdict
from tests.support.alive import seen
from tests.support.documents import meshed, shaped
from tests.support.meshes import CABLES, whole
from tests.support.plans import needed

NEW = {4: "172.18.0.5", 6: "2001:db8::5"}
SINGLE = [kind for kind, wish in OVERLAYS.items() if not wish.serves_all_peers]
SHAPES = [
    f"{mode} {family}"
    for mode in (
        "tunnel",
        *(f"{mode} {kind}" for mode in ("transport", "tunnel") for kind in OVERLAYS),
    )
    for family in ("v4", "v6")
]


def moved(cable: Cable) -> Cable:
    return cable_to(cable, NEW[cable.local.address.version])


def facts(cables: tuple[Cable, ...], has: tuple[Cable, ...]) -> tuple[Facts, ...]:
    """Return the facts of the file's cables, on a host where cablectl made others."""
    return partition.of_each(cables, whole(has), frozenset(cable.id for cable in has))


def failover(shape: str) -> tuple[Cable, Cable, Facts]:
    """Return the cable before and after, and the facts of a host that has the one before."""
    before = shaped(shape)
    after = moved(before)
    return before, after, facts((after,), (before,))[0]


def routes_of(plan: Plan) -> list[str]:
    return [line for line in needed(plan) if line.startswith("ip route")]


@pytest.mark.parametrize("shape", SHAPES)
def test_the_old_cable_goes(shape: str) -> None:
    before, after, host = failover(shape)
    plan = connect_plan.plan((after,), (host,))
    lines = needed(plan)
    for name in before.names:
        assert f"ipsec whack --delete --name {name}" in lines
    assert any(line.startswith(f"rm -f /etc/ipsec.d/cablectl-{before.id}.") for line in lines)
    phases = [step.phase for step in plan.needed if "--delete" in step.argv]
    assert set(phases) == {Phase.ADD if after.overlay is None else Phase.DELETE}
    # In tunnel mode the policies are those of the new cable as well: pluto removes the SAs.
    reqid = min(host.policies.values(), default=7)
    ends = (str(before.local.address), str(before.remote.address))
    host = replace(host, sas=(SecurityAssociation(*ends, "esp", "0x1", reqid),))
    gone = needed(teardown_plan.plan((after,), (host,)))
    assert {f"ipsec whack --delete --name {name}" for name in before.names} <= set(gone)
    assert any(line.startswith(f"rm -f /etc/ipsec.d/cablectl-{before.id}.") for line in gone)
    assert not any("xfrm" in line for line in gone)


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if "transport" in shape])
def test_routes_are_replaced(shape: str) -> None:
    """So a packet always has a route through the device."""
    before, after, host = failover(shape)
    plan = connect_plan.plan((after,), (host,))
    (line,) = routes_of(plan)
    subnet, vtep = after.remote.networks[0], after.remote_vtep.ip
    assert line.startswith(f"ip route replace {subnet} via {vtep} dev ")
    (step,) = (step for step in plan.needed if step.argv[:2] == ("ip", "route"))
    assert step.kind is Change.ALTER
    assert f"via {before.remote_vtep.ip}" in " ".join(step.undo[0])
    down = needed(teardown_plan.plan((after,), (host,)))
    (link,) = (i for i, line in enumerate(down) if line.startswith("ip link delete"))
    assert all(" dev " not in line or "whack" in line for line in down[link + 1 :])


@pytest.mark.parametrize(
    "shape", [f"transport {kind} {v}" for kind in SINGLE for v in ("v4", "v6")]
)
def test_a_device_for_one_peer_gets_the_new_one(shape: str) -> None:
    before, after, host = failover(shape)
    plan = connect_plan.plan((after,), (host,))
    assert not any(line.startswith(("ip link add", "ip link delete")) for line in needed(plan))
    (step,) = (step for step in plan.needed if step.argv[:3] == ("ip", "link", "set"))
    assert str(after.remote.address) in step.argv
    assert str(before.remote.address) in step.undo[0]
    assert step.phase is Phase.OVERLAY
    verdict, reasons = seen(after, host)
    assert verdict is Verdict.DOWN
    assert after.overlay
    assert f"the device {after.overlay.device} leads to {before.remote.address}" in str(reasons)


def test_the_old_neighbour_of_a_geneve_goes() -> None:
    before, after, host = failover("transport geneve v4")
    delete = f"ip neigh delete {before.remote_vtep.ip} lladdr {before.mac_of(before.remote)}"
    assert any(line.startswith(delete) for line in needed(connect_plan.plan((after,), (host,))))


def test_neighbours_that_somebody_made_stay() -> None:
    _, after, host = failover("transport geneve v4")
    overlay = replace(host.overlay, stale_peers=())
    before = whole((shaped("transport geneve v4"),))
    by_hand = frozenset({("241.0.0.9", "3e:00:00:00:00:01")})
    other = replace(before, overlay=replace(before.overlay, neighbours=by_hand, routes=frozenset()))
    (found,) = partition.of_each((after,), other, frozenset())
    assert found.overlay.stale_peers == overlay.stale_peers


@pytest.mark.parametrize("shape", ["tunnel v4 mesh", "transport vxlan v4 mesh"])
def test_a_mesh_needs_one_run(shape: str) -> None:
    cables = meshed(shape)
    after = (cables[0], moved(cables[1]))
    plan = connect_plan.plan(after, facts(after, cables))
    lines = needed(plan)
    assert not any(cables[0].remote.cable_name in line for line in lines if "whack" in line)
    assert {f"ipsec whack --delete --name {name}" for name in cables[1].names} <= set(lines)
    assert not any(line.startswith("ip route delete") for line in lines)


def test_a_subnet_that_moves_to_another_peer_keeps_a_route() -> None:
    """The route is replaced, whichever of the two peers comes first."""
    first, second = CABLES
    swapped = (
        replace(first, remote=replace(first.remote, subnets=second.remote.subnets)),
        replace(second, remote=replace(second.remote, subnets=first.remote.subnets)),
    )
    lines = routes_of(connect_plan.plan(swapped, facts(swapped, CABLES)))
    assert {line.split()[2] for line in lines} == {"replace"}
    assert len(lines) == len(first.remote.networks) + len(second.remote.networks)


class TestAnotherFile:
    """A cable to another gateway of the same cluster isn't in the way, so it stays."""

    def test_other_subnets(self) -> None:
        before = shaped("tunnel v4")
        after = moved(before)
        other = meshed("tunnel v4 mesh")[1]
        after = replace(after, remote=replace(after.remote, subnets=other.remote.subnets))
        assert facts((after,), (before,))[0].earlier == ()

    @pytest.mark.parametrize("kind", SINGLE)
    def test_another_device_leads_there(self, kind: str) -> None:
        before = shaped(f"transport {kind} v4")
        after = moved(before)
        host = whole((before,))
        peers = frozenset({str(before.remote.address)})
        host = replace(host, overlay=replace(host.overlay, other_peers=peers))
        (found,) = partition.of_each((after,), host, frozenset({before.id}))
        assert (found.earlier, found.former) == ((), {})

    def test_not_made_here(self) -> None:
        before = shaped("tunnel v4")
        (found,) = partition.of_each((moved(before),), whole((before,)), frozenset())
        assert found.earlier == ()

    def test_a_cluster_whose_name_goes_on(self) -> None:
        """The id of cluster `a-1` begins like those of cluster `a`."""
        before = shaped("tunnel v6")
        named = replace(before, remote=replace(before.remote, cluster="a-1"))
        after = moved(replace(before, remote=replace(before.remote, cluster="a")))
        assert facts((after,), (named,))[0].earlier == ()

    @pytest.mark.parametrize("shape", ["transport none v4", "transport vxlan v4"])
    def test_cables_of_another_kind(self, shape: str) -> None:
        """Nothing is in the way between two hosts; a VXLAN's peers are known by its device."""
        _, _, host = failover(shape)
        assert (host.earlier, host.former) == ((), {})


def test_without_connections_the_guard_decides() -> None:
    """The host's reader asks for it; here the gateway is only a candidate."""
    before = shaped("tunnel v4")
    host = replace(whole((before,)), connections={})
    (found,) = partition.of_each((moved(before),), host, frozenset({before.id}))
    assert found.earlier == (EarlierGateway(before.id, "172.18.0.7"),)
