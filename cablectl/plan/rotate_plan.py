"""Cables, their detours and facts become the plans of a rotation, one for each phase.

Every plan is idempotent, and the phase follows from the facts alone (`model.rotation`): a rotation
that was killed is continued by making the plans again.
"""

from collections.abc import Iterable, Iterator, Sequence

from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, Facts
from cablectl.libreswan import whack
from cablectl.linux import iproute
from cablectl.model.cable import Cable
from cablectl.model.rotation import replaced
from cablectl.model.wishes import Mode
from cablectl.model.x509 import Auth
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.device import purpose
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Action, Change, Phase, Plan, Step, in_order

AllFacts = tuple[Facts, ...]
COMMAND = "rotate"
_MOVE = '[ ! -e "$1" ] || mv -f -T -- "$1" "$2"'


def made(cables: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan that makes the cables or detours as they are wanted, and negotiates nothing.

    A connection that is up stays up. Other cables of the device stay as they are.
    """
    plan = connect_plan.plan(cables, facts, wait=False, narrowed=True)
    moving = {cable.id for cable in cables if cable.detour and not cable.detour.used}
    steps = tuple(
        step
        for step in plan.steps
        if step.phase is not Phase.INITIATE
        # A run that was killed while it added the routes: the next one adds the others.
        and not (step.cable in moving and (step.phase, step.kind) == (Phase.UP, Change.REMOVE))
    )
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


def returning(detours: tuple[Cable, ...], facts: AllFacts) -> Plan:
    """Return the plan of `made` without routes: a run that was killed has removed the missing ones.

    The run after it would add them and remove them again, and never come further if it is killed.
    """
    plan = made(detours, facts)
    return replace(plan, steps=tuple(step for step in plan.steps if step.phase is not Phase.UP))


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
    """Return the plan that removes the routes through the detours, the one to the VTEP last."""
    pairs = list(zip(detours, facts, strict=True))
    steps = [step for pair in pairs for step in _without_routes(*pair)]
    if detours[0].mode is not Mode.TUNNEL:
        steps += _without_rule(pairs)
    return _plan(detours, facts, steps)


def _without_routes(detour: Cable, facts: Facts) -> Iterator[Step]:
    overlay, table = detour.overlay, detour.routes.table
    if not overlay:
        return
    present = {route[:2]: route for route in facts.overlay.routes}
    for route in iproute.routes(detour, facts.source):
        if iproute.leads_to_underlay(route):
            continue
        before = present.get(route[:2])
        yield Step(
            phase=Phase.UNLINK,
            argv=iproute.route(overlay, "delete", route, table),
            why=f"{purpose(detour, route)}: its own route leads through the cable again",
            undo=(iproute.route(overlay, "add", route, table),),
            kind=Change.REMOVE,
            not_needed="" if before else "already missing",
            cable=detour.id,
        )


def _without_rule(pairs: Pairs) -> Iterator[Step]:
    """Remove the rule if no detour's routes are left."""
    detour, facts = pairs[0]
    own = {route[:2] for pair in pairs for route in iproute.routes(pair[0], "")}
    left = {route[:2] for route in facts.overlay.device_routes} - own
    yield Step(
        phase=Phase.UNLINK,
        argv=iproute.rule(detour, "delete"),
        why=f"no route is left in table {detour.routes.table}",
        undo=(iproute.rule(detour, "add"),),
        kind=Change.REMOVE,
        not_needed="other peers need it"
        if left
        else ("" if facts.overlay.rule else "already missing"),
    )


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
