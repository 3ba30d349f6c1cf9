"""What a host has of all its cables → each cable's share of it, so that none has to look far.

Everything is put in order once, whatever the number of cables.
"""

from collections import defaultdict
from collections.abc import Iterator
from ipaddress import ip_address

from msgspec.structs import replace

from cablectl.facts.host_facts import Facts, OverlayFacts, StalePeer
from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import LoadedConnection
from cablectl.linux import iproute, xfrm
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable, cable_id, vtep
from cablectl.model.wishes import dashed, mac_of

Pair = tuple[str, str]
ByPeer = tuple[dict[str, set[Pair]], dict[str, set[Pair]], dict[str, set[iproute.Route]]]


def of_each(
    cables: tuple[Cable, ...], whole: Facts, made_here: frozenset[str]
) -> tuple[Facts, ...]:
    """Return each cable's share of what all of them, and others, have on a host.

    `made_here` are the ids of the cables that cablectl made on this host.
    """
    loaded, led_to = _by_cable(whole.connections), _by_gateway(whole.connections)
    by_peer = _by_peer(whole.overlay)
    there = _overlays(cables, whole.overlay, by_peer)
    stale_peers = tuple(_stale_peers(cables, whole, by_peer, led_to, made_here))
    policies = [xfrm.policies_of(each.connections) for each in cables]
    reqids = [{whole.policies[one] for one in each & whole.policies.keys()} for each in policies]
    sas, others = _sas(reqids, whole.sas)
    owned = frozenset[xfrm.Policy]().union(*policies)
    foreign = {one: reqid for one, reqid in whole.policies.items() if one not in owned}
    return tuple(
        replace(
            whole,
            connections=_connections(cable, whole.connections, loaded),
            made_here=cable.id in made_here,
            former=_former(cable, whole.connections, led_to, made_here),
            policies={
                **foreign,
                **{one: whole.policies[one] for one in ours if one in whole.policies},
            },
            sas=tuple(sa for reqid in its_reqids for sa in sas.get(reqid, ())) + others,
            overlay=replace(overlay, stale_peers=stale_peers),
        )
        for cable, ours, its_reqids, overlay in zip(cables, policies, reqids, there, strict=True)
    )


def _by_cable(connections: dict[str, LoadedConnection]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = defaultdict(list)
    for name, each in connections.items():
        found[pluto.cable_of(name, each)].append(name)
    return found


def _connections(
    cable: Cable, every: dict[str, LoadedConnection], by_cable: dict[str, list[str]]
) -> dict[str, LoadedConnection]:
    """Return those with the cable's name, also where what they join is in a form unknown here."""
    names = (*by_cable.get(cable.remote.cable_name, ()), *(each.name for each in cable.connections))
    return {name: every[name] for name in names if name in every}


def _former(
    cable: Cable,
    every: dict[str, LoadedConnection],
    led_to: dict[str, list[str]],
    made_here: frozenset[str],
) -> dict[str, str]:
    """Return what joins the same under another name, and was made here, with its cable's id."""
    found = {}
    for name in led_to.get(str(cable.remote_host), ()):
        called = pluto.cable_of(name, every[name])
        if called == cable.remote.cable_name or cable_id(called) not in made_here:
            continue
        if any(every[name].joins(pluto.selectors(each)) for each in cable.connections):
            found[name] = cable_id(called)
    return found


def _sas(
    reqids: list[set[int]], sas: tuple[SecurityAssociation, ...]
) -> tuple[dict[int, list[SecurityAssociation]], tuple[SecurityAssociation, ...]]:
    """Return the SAs by the reqid of a cable's policies, and those of no cable's."""
    ours = set[int]().union(*reqids) - {0}
    found: dict[int, list[SecurityAssociation]] = defaultdict(list)
    others = []
    for sa in sas:
        if sa.reqid in ours:
            found[sa.reqid].append(sa)
        else:
            others.append(sa)
    return found, tuple(others)


def _overlays(
    cables: tuple[Cable, ...], whole: OverlayFacts, by_peer: ByPeer
) -> list[OverlayFacts]:
    fdb, neighbours, routes = by_peer
    peers = ((str(each.remote_host), str(each.remote_vtep.ip)) for each in cables)
    return [
        replace(
            whole,
            fdb=frozenset(fdb[gateway]),
            neighbours=frozenset(neighbours[remote]),
            routes=frozenset(routes[remote]),
        )
        for gateway, remote in peers
    ]


def _by_peer(whole: OverlayFacts) -> ByPeer:
    """Return FDB entries by gateway, neighbours by VTEP, and routes by VTEP."""
    fdb: dict[str, set[Pair]] = defaultdict(set)
    neighbours: dict[str, set[Pair]] = defaultdict(set)
    routes: dict[str, set[iproute.Route]] = defaultdict(set)
    for entry in whole.fdb:
        fdb[entry[1]].add(entry)
    for neighbour in whole.neighbours:
        neighbours[neighbour[0]].add(neighbour)
    for route in whole.routes:
        routes[route[1]].add(route)
    return fdb, neighbours, routes


def _stale_peers(
    cables: tuple[Cable, ...],
    whole: Facts,
    by_peer: ByPeer,
    led_to: dict[str, list[str]],
    made_here: frozenset[str],
) -> Iterator[StalePeer]:
    """Yield the device's other peers, known by the MAC that connect derives from their address."""
    first, there = cables[0], whole.overlay
    wanted = first.overlay
    if not (wanted and wanted.serves_all_peers and there.link and there.link.ours):
        return
    fdb, neighbours, routes = by_peer
    for gateway in sorted(fdb.keys() - {str(each.remote_host) for each in cables}):
        address = ip_address(gateway)
        if (mac_of(address), gateway) not in fdb[gateway]:
            continue
        names = [
            name
            for name in led_to.get(gateway, ())
            if _carries(whole.connections[name], wanted.port_number)
        ]
        ids = {cable_id(pluto.cable_of(name, whole.connections[name])) for name in names} or {
            each for each in made_here if each.endswith(f"-{dashed(address)}")
        }
        remote = str(vtep(address, first.vtep_network).ip)
        yield StalePeer(
            id=min(ids, default=dashed(address)),
            gateway=gateway,
            fdb=frozenset(fdb[gateway]),
            neighbours=frozenset(neighbours[remote]),
            routes=frozenset(routes[remote]),
            connections=tuple(names),
            made_here=bool(ids & made_here),
        )


def _by_gateway(connections: dict[str, LoadedConnection]) -> dict[str, list[str]]:
    """Return the names of cables' connections by the address of the other end."""
    found: dict[str, list[str]] = defaultdict(list)
    for name, each in connections.items():
        if each.selectors and pluto.cable_of(name, each):
            found[each.selectors.remote.host or ""].append(name)
    return found


def _carries(connection: LoadedConnection, overlay_port: int | None) -> bool:
    ends = connection.selectors
    return ends is not None and overlay_port in (ends.local.port, ends.remote.port)
