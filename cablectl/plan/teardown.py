"""Cable and facts → the plan that removes what connect made and is still there."""

from collections.abc import Iterator
from functools import partial

from cablectl import guard, libreswan, secret, xfrm
from cablectl.cable import Cable
from cablectl.facts import Facts, Pluto, Secret
from cablectl.model import Overlay
from cablectl.overlay import network
from cablectl.plan import Action, Change, Phase, Plan, Step

_gone = partial(Step, kind=Change.REMOVE)


def plan(cable: Cable, facts: Facts) -> Plan:
    """Return the plan that removes what connect made and is still there: link first."""
    steps: list[Step] = []
    if cable.overlay:
        steps += _unlink(cable, facts, cable.overlay)
    if cable.connections:
        steps += [*_delete(cable, facts), *_forget(cable, facts), _unguard(cable, facts)]
    return Plan(action=Action.TEARDOWN, cable=cable, facts=facts, steps=tuple(steps))


def _unlink(cable: Cable, facts: Facts, wanted: Overlay) -> Iterator[Step]:
    there = facts.overlay
    old = {route[:2] for route in there.routes}  # whatever its source
    for route in network.routes(cable, facts.source):
        yield _gone(
            phase=Phase.UNLINK,
            argv=network.route(wanted, "delete", route),
            why=f"a subnet of {cable.remote.cluster}",
            not_needed="" if route[:2] in old else "missing already",
        )
    yield _gone(
        phase=Phase.UNLINK,
        argv=network.rule(cable, "delete"),
        why=f"nothing of ours is left in table {network.TABLE}",
        not_needed="" if there.rule else "missing already",
    )
    yield _gone(
        phase=Phase.UNLINK,
        argv=network.delete_link(wanted),
        why="the device, and with it its addresses, settings and forwarding entries",
        not_needed="missing already"
        if not there.link
        else ""
        if there.link.ours
        else "not made by cablectl",
    )


def _delete(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    missing = "missing already" if facts.pluto is Pluto.RUNNING else "pluto isn't running"
    for each in cable.connections:
        yield _gone(
            phase=Phase.DELETE,
            argv=libreswan.delete(each.name),
            why="its SAs and policies go with it",
            not_needed="" if each.name in loaded else missing,
        )
    for name in facts.outdated(cable):
        if name not in cable.names:
            why = "of an earlier file of this cable"
            yield _gone(phase=Phase.DELETE, argv=libreswan.delete(name), why=why)
    orphans = "left in the kernel by a pluto that died"
    for sa in () if loaded else xfrm.sas_of(cable.connections, facts.policies, facts.sas):
        yield _gone(phase=Phase.DELETE, argv=xfrm.delete_sa(sa), why=orphans)
    for each in cable.connections:
        for policy in xfrm.policies(each):
            if each.name not in loaded and policy in facts.policies:
                yield _gone(phase=Phase.DELETE, argv=xfrm.delete_policy(policy), why=orphans)


def _unguard(cable: Cable, facts: Facts) -> Step:
    return _gone(
        phase=Phase.UNGUARD,
        argv=guard.remove(cable),
        why="nothing is left that it could let through",
        not_needed="" if facts.guard else "missing already",
    )


def _forget(cable: Cable, facts: Facts) -> Iterator[Step]:
    missing = "missing already" if facts.secret is Secret.ABSENT else ""
    remove, reread = secret.remove(cable)
    yield _gone(phase=Phase.FORGET, argv=remove, why=secret.path(cable), not_needed=missing)
    yield _gone(
        phase=Phase.FORGET,
        argv=reread,
        why="pluto forgets the key as well",
        not_needed=missing or ("" if facts.pluto is Pluto.RUNNING else "pluto isn't running"),
    )
