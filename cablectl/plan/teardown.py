"""Cables and facts → the plan that removes what connect made and is still there."""

from collections.abc import Iterator
from functools import partial

from cablectl import guard, libreswan, secret, xfrm
from cablectl.cable import Cable
from cablectl.facts import Facts, Pluto, Secret
from cablectl.model import Overlay
from cablectl.overlay import network
from cablectl.plan import Action, Change, Phase, Plan, Step
from cablectl.plan.ipsec import Pairs

_gone = partial(Step, kind=Change.REMOVE)


def plan(cables: tuple[Cable, ...], facts: tuple[Facts, ...]) -> Plan:
    """Return the plan that removes what connect made and is still there: link first."""
    pairs = list(zip(cables, facts, strict=True))
    steps: list[Step] = []
    wanted = cables[0].overlay
    if wanted:
        steps += _unlink(pairs, wanted)
    if cables[0].connections:
        for each in pairs:
            steps += _delete(*each)
        steps += [*_forget(pairs), *_unguard(pairs)]
    return Plan(action=Action.TEARDOWN, cables=cables, facts=facts, steps=tuple(steps))


def _unlink(pairs: Pairs, wanted: Overlay) -> Iterator[Step]:
    for cable, facts in pairs:
        old = {route[:2] for route in facts.overlay.routes}  # whatever its source
        for route in network.routes(cable, facts.source):
            yield _gone(
                phase=Phase.UNLINK,
                argv=network.route(wanted, "delete", route),
                why=f"a subnet of {cable.remote.cluster}",
                not_needed="" if route[:2] in old else "missing already",
                cable=cable.id,
            )
    cable, facts = pairs[0]
    there = facts.overlay
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
    step = partial(_gone, phase=Phase.DELETE, cable=cable.id)
    for each in cable.connections:
        yield step(
            argv=libreswan.delete(each.name),
            why="its SAs and policies go with it",
            not_needed="" if each.name in loaded else missing,
        )
    for name in facts.outdated(cable):
        if name not in cable.names:
            yield step(argv=libreswan.delete(name), why="of an earlier file of this cable")
    orphans = "left in the kernel by a pluto that died"
    for sa in () if loaded else xfrm.sas_of(cable.connections, facts.policies, facts.sas):
        yield step(argv=xfrm.delete_sa(sa), why=orphans)
    for each in cable.connections:
        for policy in xfrm.policies(each):
            if each.name not in loaded and policy in facts.policies:
                yield step(argv=xfrm.delete_policy(policy), why=orphans)


def _unguard(pairs: Pairs) -> Iterator[Step]:
    tables = {guard.name(cable): (cable, facts) for cable, facts in pairs}
    for cable, facts in tables.values():
        yield _gone(
            phase=Phase.UNGUARD,
            argv=guard.remove(cable),
            why="nothing is left that it could let through",
            not_needed="" if facts.guard else "missing already",
            cable="" if cable.shares_device else cable.id,
        )


def _forget(pairs: Pairs) -> Iterator[Step]:
    absent, missing = [facts.secret is Secret.ABSENT for _, facts in pairs], "missing already"
    for (cable, _), gone in zip(pairs, absent, strict=True):
        remove, reread = secret.remove(cable)
        yield _gone(
            phase=Phase.FORGET,
            argv=remove,
            why=secret.path(cable),
            not_needed=missing if gone else "",
            cable=cable.id,
        )
    running = pairs[0][1].pluto is Pluto.RUNNING
    yield _gone(
        phase=Phase.FORGET,
        argv=reread,
        why="pluto forgets the key as well",
        not_needed=missing if all(absent) else "" if running else "pluto isn't running",
    )
