"""Cables and facts become the steps that make the overlay's device and bring it up with routes."""

from collections.abc import Iterator
from functools import partial

from cablectl.facts.host_facts import Facts
from cablectl.linux import iproute
from cablectl.linux.overlay.registry import add_link, overlay_of
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode, OverlayWish
from cablectl.plan import old_tables
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Change, Phase, Step


def steps(
    pairs: Pairs, wanted: OverlayWish, size: int, *, narrowed: bool = False
) -> Iterator[Step]:
    """Yield the steps in order; `size` is the device's MTU in bytes.

    All peers share the device, its settings and the rule. If `narrowed`, the device may have other
    peers of the file.
    """
    first, facts = pairs[0]
    yield from _device(first, facts, wanted, size)
    if wanted.serves_all_peers:
        for cable, of_cable in pairs:
            yield from _forward(cable, of_cable, wanted, alone=len(pairs) == 1)
    yield from _settings(first, facts, wanted)
    link, rule = facts.overlay.link, iproute.table_rule(first)
    looked_up = [_rule(first, facts, rule, "")] if rule else []
    if first.mode is Mode.TUNNEL:
        yield _blackhole(first, facts, wanted)
        yield from looked_up
    yield _made(
        Phase.UP,
        iproute.set_link(wanted, "up"),
        "from here on the overlay can send",
        iproute.set_link(wanted, "down"),
        done=link is not None and link.up,
    )
    installed = {route[0]: route for route in facts.overlay.device_routes}
    subnets = wanted_subnets(pairs)
    for cable, of_cable in pairs:
        yield from _reach(cable, of_cable, wanted, installed, subnets)
    if first.mode is not Mode.TUNNEL:
        yield from looked_up
    for cable, of_cable in pairs:
        if cable.detour and cable.detour.used:
            moving = iproute.moving_rules(cable)
            yield from (_rule(cable, of_cable, each, cable.id) for each in moving)
    yield from old_tables.moved(pairs, wanted, narrowed=narrowed)


def _rule(cable: Cable, facts: Facts, rule: iproute.Rule, of_cable: str) -> Step:
    return _made(
        Phase.UP,
        iproute.rule(cable, "add", rule),
        f"packets{f' to {rule.to}' if rule.to else ''} look up table {rule.table}",
        iproute.rule(cable, "delete", rule),
        done=rule in facts.overlay.rules,
        cable=of_cable,
    )


def _blackhole(cable: Cable, facts: Facts, wanted: OverlayWish) -> Step:
    route, table = iproute.blackhole(cable), cable.routes.table
    return _made(
        Phase.UP,
        iproute.route(wanted, "add", route, table),
        "no packet of the overlay leaves by the host's own routes",
        iproute.route(wanted, "delete", route, table),
        done=facts.overlay.blackhole,
    )


def _device(cable: Cable, facts: Facts, wanted: OverlayWish, size: int) -> Iterator[Step]:
    """Make the device; what is added to a new device is removed with it and needs no undo."""
    link = facts.overlay.link
    step = partial(_made, Phase.OVERLAY)
    yield step(
        add_link(cable, wanted, size),
        f"the VTEP's device; packets of {size} bytes fit a path of {facts.path_mtu}",
        iproute.delete_link(wanted),
        done=link is not None,
    )
    changed_with_mtu = not (overlay_of(wanted).keeps_mtu or (link and link.fits(cable, wanted)))
    if link and link.mtu != size and not changed_with_mtu:
        undo = iproute.set_mtu(wanted, link.mtu)
        why = f"the device's MTU in bytes; it was {link.mtu}"
        yield step(iproute.set_mtu(wanted, size), why, undo, done=False, kind=Change.ALTER)
    for interface in cable.device_addresses:
        is_vtep = interface == cable.local_vtep
        yield step(
            iproute.address(interface, wanted, "add"),
            "the VTEP's address" if is_vtep else "the address from which the overlay's packets go",
            iproute.address(interface, wanted, "delete") if link else None,
            done=link is not None and str(interface) in link.addresses,
        )


def _forward(cable: Cable, facts: Facts, wanted: OverlayWish, *, alone: bool) -> Iterator[Step]:
    """Make the device send to the peer; if a single peer fails, a new device is removed whole."""
    entries, present = overlay_of(wanted).fdb_entries(cable), facts.overlay
    step = partial(_made, Phase.OVERLAY, cable=cable.id)
    for mac, gateway in entries:
        yield step(
            iproute.forwarding_entry(wanted, "append", mac, gateway),
            "broadcast and multicast go to the peer"
            if mac == iproute.ANY_MAC
            else "the peer's frames go to the peer",
            iproute.forwarding_entry(wanted, "delete", mac, gateway)
            if present.link or not alone
            else None,
            done=(mac, gateway) in present.fdb,
        )
    flooded = (iproute.ANY_MAC, str(cable.remote_underlay))
    if flooded in present.fdb - set(entries):
        yield step(
            iproute.forwarding_entry(wanted, "delete", *flooded),
            "frames are no longer sent to every peer",
            iproute.forwarding_entry(wanted, "append", *flooded),
            done=False,
            kind=Change.REMOVE,
        )


def _settings(cable: Cable, facts: Facts, wanted: OverlayWish) -> Iterator[Step]:
    for path, value in iproute.settings(cable, wanted):
        yield Step(
            phase=Phase.OVERLAY,
            argv=iproute.set_setting(path, value),
            why=f"{path.rpartition('/')[2]} of the device is {value}; removed with the device",
            not_needed="set" if (path, value) in facts.overlay.settings else "",
        )


def purpose(cable: Cable, route: iproute.Route) -> str:
    """Return what a route to the cable's peer is for."""
    what = "the overlay's packets to" if iproute.leads_to_underlay(route) else "a subnet of"
    return f"{what} {cable.remote.cluster}"


def wanted_subnets(pairs: Pairs) -> frozenset[str]:
    """Return the remote subnets of all cables."""
    return frozenset(str(subnet) for cable, _ in pairs for subnet in cable.routed_networks)


def _reach(
    cable: Cable,
    facts: Facts,
    wanted: OverlayWish,
    installed: dict[str, iproute.Route],
    subnets: frozenset[str],
) -> Iterator[Step]:
    """Make the peer's VTEP and subnets reachable.

    `installed` has the device's routes by subnet, to all peers: a subnet that moves to another peer
    keeps a route all the time. `subnets` are those of all cables.
    """
    present, vtep = facts.overlay, str(cable.remote_vtep.ip)
    step = partial(_made, Phase.UP, cable=cable.id)
    if overlay_of(wanted).has_macs:
        yield step(
            # replace, not add: waiting traffic makes the kernel add an incomplete entry.
            iproute.neighbour(wanted, "replace", vtep, cable.mac_of(cable.remote)),
            "the peer's VTEP needs no ARP",
            iproute.neighbour(wanted, "delete", vtep, cable.mac_of(cable.remote)),
            done=(vtep, cable.mac_of(cable.remote)) in present.neighbours,
        )
    route_of = partial(iproute.route, wanted, table=cable.routes.table)
    elsewhere = {subnet: route for subnet, route in installed.items() if route[1] != vtep}
    old = {route[:2]: route for route in present.routes if route[1] == vtep}
    wanted_routes = iproute.routes(cable, facts.source)
    for route in wanted_routes:
        before = old.pop(route[:2], None) or elsewhere.get(route[0])
        yield step(
            route_of("replace" if before else "add", route),
            purpose(cable, route),
            route_of("replace", before) if before else route_of("delete", route),
            done=before == route,
            kind=Change.ALTER if before else Change.ADD,
        )
    for route in sorted(route for route in old.values() if route[0] not in subnets):
        yield step(
            route_of("delete", route),
            f"no longer a subnet of {cable.remote.cluster}",
            route_of("add", route),
            done=False,
            kind=Change.REMOVE,
        )


def _made(
    phase: Phase,
    argv: Argv,
    why: str,
    undo: Argv | None,
    *,
    done: bool,
    kind: Change = Change.ADD,
    cable: str = "",
) -> Step:
    return Step(
        phase=phase,
        argv=argv,
        why=why,
        undo=(undo,) if undo else (),
        not_needed="present" if done else "",
        kind=kind,
        cable=cable,
    )
