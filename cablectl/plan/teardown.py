"""Cable and facts → the plan that removes what connect made and is still there."""

from collections.abc import Iterator

from cablectl import libreswan, secret, xfrm
from cablectl.facts import Facts, Pluto, Secret
from cablectl.model import Cable
from cablectl.overlay import vxlan
from cablectl.plan import Action, Phase, Plan, Step


def plan(cable: Cable, facts: Facts) -> Plan:
    """Return the plan that removes what connect made and is still there: link first."""
    steps = (*_unlink(cable, facts), *_delete(cable, facts), *_forget(cable, facts))
    return Plan(action=Action.TEARDOWN, cable=cable, facts=facts, steps=steps)


def _unlink(cable: Cable, facts: Facts) -> Iterator[Step]:
    there = facts.overlay
    for subnet, vtep in vxlan.routes(cable):
        yield Step(
            phase=Phase.UNLINK,
            argv=vxlan.route(cable, "delete", subnet, vtep),
            why=f"a subnet of {cable.remote.cluster}",
            not_needed="" if (subnet, vtep) in there.routes else "missing already",
        )
    yield Step(
        phase=Phase.UNLINK,
        argv=vxlan.rule("delete"),
        why=f"nothing of ours is left in table {vxlan.TABLE}",
        not_needed="" if there.rule else "missing already",
    )
    yield Step(
        phase=Phase.UNLINK,
        argv=vxlan.delete_link(cable),
        why="the device, and with it its addresses and forwarding entries",
        not_needed="missing already"
        if not there.link
        else ""
        if there.link.is_of(cable)
        else "not made by cablectl",
    )


def _delete(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    missing = "missing already" if facts.pluto is Pluto.RUNNING else "pluto isn't running"
    for each in cable.connections:
        yield Step(
            phase=Phase.DELETE,
            argv=libreswan.delete(each.name),
            why="its SAs and policies go with it",
            not_needed="" if each.name in loaded else missing,
        )
    orphans = "left in the kernel by a pluto that died"
    for each in cable.connections:
        for policy in xfrm.policies(cable, each):
            if each.name not in loaded and policy in facts.policies:
                yield Step(phase=Phase.DELETE, argv=xfrm.delete_policy(policy), why=orphans)
    for sa in () if loaded else xfrm.sas_of(cable, facts.sas):
        yield Step(phase=Phase.DELETE, argv=xfrm.delete_sa(sa), why=orphans)


def _forget(cable: Cable, facts: Facts) -> Iterator[Step]:
    missing = "missing already" if facts.secret is Secret.ABSENT else ""
    remove, reread = secret.remove(cable)
    yield Step(phase=Phase.FORGET, argv=remove, why=secret.path(cable), not_needed=missing)
    yield Step(
        phase=Phase.FORGET,
        argv=reread,
        why="pluto forgets the key as well",
        not_needed=missing or ("" if facts.pluto is Pluto.RUNNING else "pluto isn't running"),
    )
