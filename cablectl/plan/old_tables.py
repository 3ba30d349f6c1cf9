"""Routes and rules of cablectl's in another table than the file's → the steps that remove them.

An earlier cablectl had them in table 100, and an earlier file may have named any table. connect
removes them after the new routes and the new rule work, so no packet finds neither.
"""

from collections.abc import Iterator

from cablectl.linux import iproute
from cablectl.linux.iproute import OldRoute
from cablectl.model.wishes import OverlayWish
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Change, Phase, Step


def moved(pairs: Pairs, wanted: OverlayWish, *, narrowed: bool) -> Iterator[Step]:
    """Yield the steps of connect, in order: rules first, since their routes are still complete."""
    yield from _steps(pairs, wanted, Phase.UP, narrowed=narrowed, undone=True)


def removed(pairs: Pairs, wanted: OverlayWish, *, narrowed: bool) -> Iterator[Step]:
    """Yield the steps of teardown."""
    yield from _steps(pairs, wanted, Phase.UNLINK, narrowed=narrowed, undone=False)


def _steps(
    pairs: Pairs, wanted: OverlayWish, phase: Phase, *, narrowed: bool, undone: bool
) -> Iterator[Step]:
    cable, facts = pairs[0]
    of_peers = {route[:2] for peer, _ in pairs for route in iproute.routes(peer, "")}
    vteps = {str(peer.remote_vtep.ip) for peer, _ in pairs}
    leaving = [
        old
        for old in facts.overlay.old_routes
        if not narrowed or old.route[1] in vteps or old.route[:2] in of_peers
    ]
    kept = {old.table for old in facts.overlay.old_routes.difference(leaving)}
    for rule in sorted(facts.overlay.old_rules):
        if rule.table in kept:
            continue
        yield Step(
            phase=phase,
            argv=iproute.rule(cable, "delete", rule),
            why=f"cablectl has no more routes in table {rule.table}, priority {rule.priority}",
            undo=(iproute.rule(cable, "add", rule),) if undone else (),
            kind=Change.REMOVE,
        )
    for old in sorted(leaving):
        yield _route(old, wanted, phase, undone=undone)


def _route(old: OldRoute, wanted: OverlayWish, phase: Phase, *, undone: bool) -> Step:
    return Step(
        phase=phase,
        argv=iproute.route(wanted, "delete", old.route, old.table),
        why=f"the routes were in table {old.table} before",
        undo=(iproute.route(wanted, "add", old.route, old.table),) if undone else (),
        kind=Change.REMOVE,
    )
