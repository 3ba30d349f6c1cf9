"""Cables, their detours and facts become the plans of a rotation, one for each phase.

Every plan is idempotent, and the phase follows from the facts alone (`model.rotation`): a rotation
that was killed is continued by making the plans again.
"""

from collections.abc import Iterable, Sequence

from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, Facts
from cablectl.libreswan import whack
from cablectl.linux import iproute
from cablectl.model.cable import Cable
from cablectl.model.rotation import replaced
from cablectl.model.x509 import Auth
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Action, Change, Phase, Plan, Step, in_order

AllFacts = tuple[Facts, ...]
COMMAND = "rotate"
_MOVE = '[ ! -e "$1" ] || mv -f -T -- "$1" "$2"'


def made(cables: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that makes the cables or detours as they are wanted, and negotiates nothing.

    A connection that is up stays up. Other cables of the device stay as they are.
    """
    plan = connect_plan.plan(cables, facts, wait=False, narrowed=True)
    steps = tuple(step for step in plan.steps if step.phase is not Phase.INITIATE)
    return replace(plan, steps=steps, command=COMMAND)


def awaited(cables: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan of `made` without trap policies where the other end begins.

    A packet of the device would have pluto negotiate as well, and two Child SAs would come up. The
    guard drops the packet instead.
    """
    waiting = {cable.id for cable in cables if not cable.begins}
    plan = made(cables, facts)
    steps = (
        step for step in plan.steps if step.phase is not Phase.ROUTE or step.cable not in waiting
    )
    return replace(plan, steps=tuple(steps))


def guarded(cables: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that makes the guards of the cables as they are wanted, and nothing else."""
    plan = made(cables, facts)
    return replace(plan, steps=tuple(step for step in plan.steps if step.phase is Phase.GUARD))


def initiated(cables: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that negotiates the connections that aren't up.

    If that fails, `reloaded` has to follow: pluto tries again later, even if the peer has brought
    the connection up meanwhile, and a second Child SA costs packets that are under way.
    """
    steps = [
        Step(
            phase=Phase.INITIATE,
            argv=whack.initiate(connection.name),
            why="negotiate",
            not_needed="up" if of_cable.is_up(connection.name) else "",
            cable=cable.id,
        )
        for cable, of_cable in zip(cables, facts, strict=True)
        for connection in cable.connections
        if connection.routed
    ]
    return _plan(cables, facts, steps)


def reloaded(cables: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that loads cables anew of which no connection is up."""
    down = {
        cable.id
        for cable, of_cable in zip(cables, facts, strict=True)
        if not any(map(of_cable.is_up, cable.names))
    }
    return _anew(cables, facts, down, "pluto forgets that it is to negotiate")


def changed(cables: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that loads the cables with the next key.

    Nothing may be using them. The connections are unloaded before the secrets file is written: so
    a secrets file with the next key shows that no IKE SA has the old one.
    """
    old = {
        cable.id
        for cable, of_cable in zip(cables, facts, strict=True)
        if of_cable.credential is not Credential.SAME
    }
    return _anew(cables, facts, old, "it has the old key, and both ends use the second path")


def _anew(cables: tuple[Cable, ...], facts: AllFacts, ids: set[str], why: str) -> Plan:
    """Return the plan that unloads some cables and makes all; nothing of it is undone."""
    unloads: list[Step] = []
    without: list[Facts] = []
    for cable, of_cable in zip(cables, facts, strict=True):
        own = of_cable.loaded(cable) if cable.id in ids else {}
        unloads += (_unload(cable, name, why) for name in own)
        others = {name: it for name, it in of_cable.connections.items() if name not in own}
        # connect would refuse to replace a secrets file with another key.
        held = of_cable.credential
        if cable.id in ids and held is not Credential.SAME:
            held = Credential.ABSENT
        without.append(replace(of_cable, connections=others, credential=held))
    plan = awaited(cables, tuple(without))
    steps = in_order((*unloads, *(replace(step, undo=()) for step in plan.steps)))
    return replace(plan, facts=facts, steps=steps)


def _unload(cable: Cable, name: str, why: str) -> Step:
    return Step(
        phase=Phase.UNLOAD,
        argv=whack.delete(name),
        why=why,
        kind=Change.REMOVE,
        cable=cable.id,
    )


def returned(detours: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that has the traffic go through the cables again, to the VTEPs last.

    The routes through the detours stay: nothing uses them before they are removed.
    """
    steps = [
        Step(
            phase=Phase.UNLINK,
            argv=iproute.rule(detour, "delete", rule),
            why=f"{rule.to} is reached through the cable to {detour.remote.cluster} again",
            undo=(iproute.rule(detour, "add", rule),),
            kind=Change.REMOVE,
            not_needed="" if rule in of_detour.overlay.rules else "already missing",
            cable=detour.id,
        )
        for detour, of_detour in zip(detours, facts, strict=True)
        for rule in iproute.moving_rules(detour)
    ]
    return _plan(detours, facts, steps)


def promoted(cables: Sequence[Cable], facts: Sequence[Facts]) -> Plan:
    """Return the plan that gives the next keys of these cables their final place.

    Of the files of a certificate some may have no next one: these stay.
    """
    places = {here: there for cable in cables for here, there in replaced(cable).items()}
    optional = any(cable.ipsec.auth is Auth.CERT for cable in cables)
    steps = [
        Step(
            phase=Phase.FORGET,
            argv=("sh", "-c", _MOVE, "sh", here, there)
            if optional
            else ("mv", "-f", "-T", "--", here, there),
            why="the next one takes the place of the old one",
            kind=Change.ALTER,
        )
        for here, there in places.items()
    ]
    return _plan(cables, facts, steps)


NOTHING = Plan(action=Action.CONNECT, cables=(), facts=(), steps=(), command=COMMAND)


def removed(detours: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that removes detours; those of other peers stay."""
    return replace(teardown_plan.plan(detours, facts, narrowed=True), command=COMMAND)


def _plan(cables: Sequence[Cable], facts: Sequence[Facts], steps: Iterable[Step]) -> Plan:
    return Plan(
        action=Action.CONNECT,
        cables=tuple(cables),
        facts=tuple(facts),
        steps=tuple(steps),
        command=COMMAND,
    )


def path_of(cable: Cable) -> str:
    """Return the path of the file's key or certificate; empty if a variable has the key."""
    return next(iter(replaced(cable).values()), "")


def next_path(cable: Cable) -> str:
    """Return the path of the next key or certificate; empty if a variable has the key."""
    return next(iter(replaced(cable)), "")
