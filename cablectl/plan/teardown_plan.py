"""Cables and facts become the plan that removes what connect made."""

from collections.abc import Iterator
from functools import partial

from cablectl.facts import orientation
from cablectl.facts.host_facts import Credential, Facts, Pluto
from cablectl.libreswan import pluto, whack
from cablectl.libreswan.authentication import authentication_of
from cablectl.libreswan.pluto import Selectors
from cablectl.linux import guard, guard_file, iproute, watch_file, xfrm
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.wishes import Mode, OverlayWish
from cablectl.plan import clamp, old_tables, stale_peers
from cablectl.plan.device import purpose
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Action, Change, Phase, Plan, Step, in_order

_gone = partial(Step, kind=Change.REMOVE)


def plan(
    cables: tuple[Cable, ...],
    facts: tuple[Facts, ...],
    *,
    narrowed: bool = False,
    keep_guard: bool = False,
) -> Plan:
    """Return the plan that removes what connect made and what is still present: the link first.

    If `narrowed`, the device and everything of its other peers stay. If `keep_guard`, the guards
    stay.
    """
    pairs = list(zip(cables, facts, strict=True))
    wanted, steps = cables[0].overlay, [*_release(pairs)]
    narrowed = narrowed and cables[0].shares_device
    others = "other peers need it" if narrowed and facts[0].overlay.stale_peers else ""
    if wanted:
        # Stale peers come first: their routes can't be deleted after the device.
        steps += () if narrowed else stale_peers.steps(pairs, wanted, device_goes=True)
        steps += old_tables.removed(pairs, wanted, narrowed=bool(others))
        steps += _unlink(pairs, wanted, others)
    steps += clamp.removal(pairs, others)
    if cables[0].connections:
        for pair in pairs:
            steps += _delete(*pair)
        steps += [*_forget(pairs), *stale_peers.former_cables(pairs)]
        steps += () if keep_guard else _unguard(pairs, others)
    return Plan(action=Action.TEARDOWN, cables=cables, facts=facts, steps=in_order(steps))


def _release(pairs: Pairs) -> Iterator[Step]:
    for cable, facts in pairs:
        if facts.watched:
            yield _gone(
                phase=Phase.RELEASE,
                argv=watch_file.remove(cable),
                why="a watch would bring the cable up again",
                cable=cable.id,
            )


def _unlink(pairs: Pairs, wanted: OverlayWish, others: str) -> Iterator[Step]:
    for cable, facts in pairs:
        moving = iproute.moving_rules(cable)
        yield from (_unrule(cable, facts, rule, of_cable=cable.id) for rule in moving)
        old = {route[:2] for route in facts.overlay.routes}  # whatever its source
        for route in iproute.routes(cable, facts.source):
            yield _gone(
                phase=Phase.UNLINK,
                argv=iproute.route(wanted, "delete", route, cable.routes.table),
                why=purpose(cable, route),
                not_needed="" if route[:2] in old else "already missing",
                cable=cable.id,
            )
        if others and wanted.serves_all_peers:
            yield from _unreach(cable, facts, wanted)
    cable, facts = pairs[0]
    present = facts.overlay
    missing = "already missing" if not present.link else ""
    foreign = "not made by cablectl" if present.link and not present.link.ours else ""
    link = _gone(
        phase=Phase.UNLINK,
        argv=iproute.delete_link(wanted),
        why="the device, with its addresses, settings and forwarding entries",
        not_needed=others or missing or foreign,
    )
    if cable.mode is Mode.TUNNEL:
        yield link
    yield from _forget_table(pairs, wanted, others)
    if cable.mode is not Mode.TUNNEL:
        yield link


def _unrule(
    cable: Cable, facts: Facts, rule: iproute.Rule, *, kept: str = "", of_cable: str = ""
) -> Step:
    return _gone(
        phase=Phase.UNLINK,
        argv=iproute.rule(cable, "delete", rule),
        why=f"cablectl has no more routes in table {rule.table}",
        not_needed=kept or ("" if rule in facts.overlay.rules else "already missing"),
        cable=of_cable,
    )


def _forget_table(pairs: Pairs, wanted: OverlayWish, others: str) -> Iterator[Step]:
    """Remove the rules and, in tunnel mode, the route that lets nothing leave without the device.

    Traces don't show which rules there should be: then those that are there go.
    """
    cable, facts = pairs[0]
    present, table = facts.overlay, cable.routes.table
    kept = others or ("routes of other devices need it" if present.table_shared else "")
    of_peers = {rule for peer, _ in pairs for rule in iproute.moving_rules(peer)}
    own = {rule for rule in (iproute.table_rule(cable), *present.rules) if rule}
    yield from (_unrule(cable, facts, rule, kept=kept) for rule in sorted(own - of_peers))
    if cable.mode is Mode.TUNNEL or present.blackhole:
        yield _gone(
            phase=Phase.UNLINK,
            argv=iproute.route(wanted, "delete", iproute.blackhole(cable), table),
            why="the overlay sends nothing any more",
            not_needed=others
            or ("the underlay of another device" if present.underlay_shared else "")
            or ("" if present.blackhole else "already missing"),
        )


def _unreach(cable: Cable, facts: Facts, wanted: OverlayWish) -> Iterator[Step]:
    """Remove one peer from a device that stays."""
    present, step = facts.overlay, partial(_gone, phase=Phase.UNLINK, cable=cable.id)
    known = (str(cable.remote_vtep.ip), cable.mac_of(cable.remote))
    yield step(
        argv=iproute.neighbour(wanted, "delete", *known),
        why="the peer no longer has a VTEP",
        not_needed="" if known in present.neighbours else "already missing",
    )
    for entry in dict.fromkeys((*overlay_of(wanted).fdb_entries(cable), *sorted(present.fdb))):
        yield step(
            argv=iproute.forwarding_entry(wanted, "delete", *entry),
            why="frames no longer go to the peer",
            not_needed="" if entry in present.fdb else "already missing",
        )


def _delete(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    missing = "already missing" if facts.pluto is Pluto.RUNNING else "pluto isn't running"
    step = partial(_gone, phase=Phase.DELETE, cable=cable.id)
    for connection in cable.connections:
        yield step(
            argv=whack.delete(connection.name),
            why="pluto removes its SAs and policies too",
            not_needed="" if connection.name in loaded else missing,
        )
    for name in facts.outdated(cable):
        if name not in cable.names:
            yield step(argv=whack.delete(name), why="from an earlier file of this cable")
    own = xfrm.policies_of(cable.connections)
    for policy in orientation.left_policies(cable, facts):
        if policy not in own:
            yield step(argv=xfrm.delete_policy(policy), why="pluto leaves it in the kernel")
    orphans = "left in the kernel by a pluto that died"
    known = loaded or facts.former  # pluto removes what is theirs
    for sa in () if known else xfrm.sas_of(cable.connections, facts.policies, facts.sas):
        yield step(argv=xfrm.delete_sa(sa), why=orphans)
    for connection in () if facts.former else cable.connections:
        for policy in xfrm.policies(connection):
            if policy in facts.policies and not _is_loaded(connection, facts):
                yield step(argv=xfrm.delete_policy(policy), why=orphans)


def _is_loaded(connection: Connection, facts: Facts) -> bool:
    """Tell whether pluto has the connection, perhaps under another name or with other hosts."""
    traffic = _traffic(pluto.selectors(connection))
    return any(
        name == connection.name or (loaded.selectors and _traffic(loaded.selectors) == traffic)
        for name, loaded in facts.connections.items()
        if not loaded.unoriented  # pluto has no policy of it any more
    )


def _traffic(ends: Selectors) -> tuple[object, ...]:
    """Return what the policies of a connection match."""
    return tuple((end.network, end.protocol, end.port) for end in (ends.local, ends.remote))


def _unguard(pairs: Pairs, others: str) -> Iterator[Step]:
    """Remove the tables; a watcher lets its table go before, else it would load the table again."""
    tables = {guard.name(cable): (cable, facts) for cable, facts in pairs}
    for cable, facts in tables.values():
        needed_by = others if cable.shares_device else ""
        step = partial(_gone, phase=Phase.UNGUARD, cable="" if cable.shares_device else cable.id)
        yield step(
            argv=guard_file.remove(cable),
            why="a watcher no longer keeps the guard",
            not_needed=needed_by or ("" if facts.guard_watched else "already missing"),
        )
        yield step(
            argv=guard.remove(cable),
            why="nothing is left to guard",
            not_needed=needed_by or ("" if facts.guard else "already missing"),
        )


def _forget(pairs: Pairs) -> Iterator[Step]:
    absent, missing = (
        [facts.credential is Credential.ABSENT for _, facts in pairs],
        "already missing",
    )
    for (cable, _), gone in zip(pairs, absent, strict=True):
        authentication = authentication_of(cable.ipsec)
        remove, reread = authentication.remove(cable.id)
        yield _gone(
            phase=Phase.FORGET,
            argv=remove,
            why=authentication.place(cable),
            not_needed=missing if gone else "",
            limit=authentication.limit,
            cable=cable.id,
        )
    running = pairs[0][1].pluto is Pluto.RUNNING
    yield _gone(
        phase=Phase.FORGET,
        argv=reread,
        why="pluto forgets the key too",
        not_needed=missing if all(absent) else "" if running else "pluto isn't running",
    )
