"""Peers of the cables' device that the file no longer has → the steps that remove them.

A stale peer is known by its forwarding entry, since its MAC follows from its address. So that entry
is removed last: an interrupted run still finds the rest by it. Connections and credentials are
removed only if cablectl made them: Submariner uses the same names.
"""

from collections.abc import Iterator
from functools import partial

from msgspec.structs import replace

from cablectl.facts.host_facts import Facts, StalePeer
from cablectl.libreswan import whack
from cablectl.libreswan.authentication import Authentication, authentication_of
from cablectl.linux import guard_file, iproute
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.wishes import OverlayWish
from cablectl.plan.device import wanted_subnets
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Change, Phase, Step, in_order

_WHY = "the file has no such peer any more"


def steps(pairs: Pairs, wish: OverlayWish, *, device_goes: bool = False) -> tuple[Step, ...]:
    """Return the steps, in order; what stands on the device is removed with it.

    connect has replaced the routes to subnets that another peer has now.
    """
    moved = frozenset[str]() if device_goes else wanted_subnets(pairs)
    cable, facts = pairs[0]
    authentication = authentication_of(cable.ipsec)
    found = (
        step
        for peer in facts.overlay.stale_peers
        for step in _of_one(cable, peer, wish, authentication, moved, device_goes=device_goes)
    )
    if not device_goes and any(not each.routed for each in _connections(pairs)):
        # A server knows its client by identities, which the old connection has as well.
        found = (_earlier(step) for step in found)
    return in_order(found)


def _connections(pairs: Pairs) -> Iterator[Connection]:
    return (connection for cable, _ in pairs for connection in cable.connections)


def _earlier(step: Step) -> Step:
    return replace(step, phase=Phase.UNLOAD) if step.phase is Phase.DELETE else step


def former_cables(pairs: Pairs) -> tuple[Step, ...]:
    """Return the steps, in order, that remove the cables to a peer's former name or address.

    Connections that would be in the way of the cable's own ones are removed earlier.
    """
    return in_order(step for pair in pairs for step in _former(*pair))


def _former(cable: Cable, facts: Facts) -> Iterator[Step]:
    step = partial(Step, kind=Change.REMOVE, cable=cable.id)
    reasons = dict.fromkeys(facts.former.values(), f"{cable.remote.cluster} had another name")
    for gateway in facts.earlier:
        reasons[gateway.id] = why = f"{cable.remote.cluster} had the gateway {gateway.address}"
        for name in gateway.connections:
            if name not in facts.former:
                yield step(phase=Phase.DELETE, argv=whack.delete(name), why=why)
    for former, why in sorted(reasons.items()):
        for argv in authentication_of(cable.ipsec).remove(former):
            limit = authentication_of(cable.ipsec).limit
            yield step(phase=Phase.FORGET, argv=argv, why=f"{why}: {former}", limit=limit)
    for table in facts.former_tables:
        if file := guard_file.remove_of(table):
            why = "a watcher no longer keeps the guard"
            yield step(phase=Phase.UNGUARD, argv=file, why=why)
        yield step(
            phase=Phase.UNGUARD, argv=("nft", f"delete table {table}"), why="a former cable's"
        )


def _of_one(
    cable: Cable,
    peer: StalePeer,
    wish: OverlayWish,
    authentication: Authentication,
    moved: frozenset[str],
    *,
    device_goes: bool,
) -> Iterator[Step]:
    table = cable.routes.table
    step = partial(Step, why=f"{_WHY}: {peer.gateway}", kind=Change.REMOVE, cable=peer.id)
    for route in sorted(route for route in peer.routes if route[0] not in moved):
        yield step(phase=Phase.UNLINK, argv=iproute.route(wish, "delete", route, table))
    for vtep, mac in () if device_goes else sorted(peer.neighbours):
        yield step(phase=Phase.UNLINK, argv=iproute.neighbour(wish, "delete", vtep, mac))
    for name in peer.connections if peer.made_here else ():
        yield step(phase=Phase.DELETE, argv=whack.delete(name))
    for argv in authentication.remove(peer.id) if peer.made_here else ():
        yield step(phase=Phase.FORGET, argv=argv, limit=authentication.limit)
    for entry in () if device_goes else sorted(peer.fdb):
        yield step(phase=Phase.FORGET, argv=iproute.forwarding_entry(wish, "delete", *entry))
