"""The cables of a mesh of three, seen from the first end, and hosts that have some of them."""

from ipaddress import ip_address

from msgspec.structs import replace

from cablectl.config import native
from cablectl.facts import partition
from cablectl.facts.host_facts import Credential, Facts, connected
from cablectl.linux import guard, mss
from cablectl.model.cable import Cable
from cablectl.model.network import Network
from cablectl.plan import connect_plan
from cablectl.plan.steps import Plan
from tests.support.documents import document
from tests.support.examples import load_all
from tests.support.plans import BLANK

CABLES = load_all("mesh")
SECOND, THIRD = (cable.id for cable in CABLES)


def alone(cable: Cable) -> Facts:
    """Return the facts of a host that has this cable and no other."""
    size = connect_plan.overlay_mtu(cable, BLANK, cable.overlay) if cable.overlay else 0
    return connected(cable, BLANK, size)


def whole(cables: tuple[Cable, ...]) -> Facts:
    """Return the facts of a host that has all of these cables, not yet shared out."""
    each_ones = [alone(cable) for cable in cables]
    first = each_ones[0]
    return replace(
        first,
        connections={name: one for its in each_ones for name, one in its.connections.items()},
        policies={
            policy: 16389 + 4 * number
            for number, its in enumerate(each_ones)
            for policy in its.policies
        },
        overlay=replace(
            first.overlay,
            fdb=frozenset().union(*(its.overlay.fdb for its in each_ones)),
            neighbours=frozenset().union(*(its.overlay.neighbours for its in each_ones)),
            routes=frozenset().union(*(its.overlay.routes for its in each_ones)),
        ),
    )


def there(
    cables: tuple[Cable, ...], has: tuple[Cable, ...], secrets: frozenset[str] | None = None
) -> tuple[Facts, ...]:
    """Return the facts of each of the cables on a host that has some."""
    ids = {each.id for each in has}
    found = partition.of_each(cables, whole(has), frozenset(ids) if secrets is None else secrets)
    return tuple(
        replace(
            its,
            credential=alone(cable).credential if cable.id in ids else Credential.ABSENT,
            guard=guard.made(cable) if has and cable.guarded else None,
            mss=_clamp(cable, has),
        )
        for cable, its in zip(cables, found, strict=True)
    )


def _clamp(cable: Cable, has: tuple[Cable, ...]) -> mss.Table | None:
    """Return the table that the cables have: one for all that share a device."""
    if not cable.shares_device:
        return alone(cable).mss if cable.id in {each.id for each in has} else None
    link = alone(cable).overlay.link
    return mss.wanted(has, link.mtu) if has and link else None


def of_steps(plan: Plan) -> set[str]:
    return {step.cable for step in plan.needed}


def big(count: int) -> Network:
    first = native.parse(document("transport vxlan v4"), "first.yaml")
    address = ip_address("10.200.0.0")
    endpoints = tuple(
        replace(first.endpoints[0], cluster=f"c{i}", hostname=f"h{i}", address=address + i,
                subnets=())
        for i in range(1, count + 1)
    )  # fmt: skip
    return replace(first, endpoints=endpoints)
