"""Divides what a host has of all cables into facts for each cable.

Everything is indexed once, so that no cable searches through what belongs to the others.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from ipaddress import ip_address

from msgspec import Struct
from msgspec.structs import replace

from cablectl.facts.earlier_gateways import EarlierGateway, Index, readings
from cablectl.facts.host_facts import Facts, OverlayFacts, StalePeer
from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import LoadedConnection, Side
from cablectl.linux import iproute, xfrm
from cablectl.linux.xfrm import Policy, SecurityAssociation
from cablectl.model.cable import Cable, cable_id
from cablectl.model.vteps import MACS, mac_of, number_of, vtep
from cablectl.model.wishes import AnyAddress, Mode, dashed

Pair = tuple[str, str]
Names = dict[str, list[str]]  # names of connections, by whatever they have in common


class _ByPeer(Struct, frozen=True):
    """What the kernel holds of an overlay: by gateway, or by VTEP."""

    fdb: dict[str, set[Pair]]  # by gateway
    neighbours: dict[str, set[Pair]]  # by VTEP
    routes: dict[str, set[iproute.Route]]  # by next hop: a VTEP or an underlay address

    def routes_to(self, vtep: str, underlay: str) -> frozenset[iproute.Route]:
        """Return the routes of one peer."""
        return frozenset(self.routes[vtep] | self.routes[underlay])


def of_each(
    cables: tuple[Cable, ...], whole: Facts, made_here: frozenset[str]
) -> tuple[Facts, ...]:
    """Return the facts of each cable, out of what the host has of all cables.

    `made_here` are the ids of the cables that cablectl made on this host.
    """
    by_cable, by_gateway = _by_cable(whole.connections), _by_remote(whole.connections, _gateway)
    by_underlay = _by_remote(whole.connections, _underlay)
    by_peer = _by_peer(whole.overlay)
    stale_peers = tuple(_stale_peers(cables, whole, by_peer, by_underlay, made_here))
    earlier_of = Index(made_here, cables, whole.connections, whole.held).of
    earlier = [tuple(earlier_of(cable, whole.overlay.other_peers)) for cable in cables]
    is_known = _is_known(cables, whole, made_here) or any(earlier)
    shares = _policies_of_each(cables, whole.policies)
    owned = frozenset[Policy]().union(*shares)
    foreign = {policy: reqid for policy, reqid in whole.policies.items() if policy not in owned}
    sas, foreign_sas = _by_reqid(shares, whole.sas)
    return tuple(
        replace(
            whole,
            connections=_connections(cable, whole.connections, by_cable),
            made_here=cable.id in made_here,
            former=_former(cable, whole.connections, by_gateway, made_here)
            | _to_unload(cable, gateways),
            earlier=gateways,
            policies=foreign | policies,
            sas=tuple(sa for reqid in set(policies.values()) for sa in sas.get(reqid, ()))
            + foreign_sas,
            overlay=replace(
                _overlay(cable, whole.overlay, by_peer), stale_peers=stale_peers, known=is_known
            ),
        )
        for cable, policies, gateways in zip(cables, shares, earlier, strict=True)
    )


def _is_known(cables: tuple[Cable, ...], whole: Facts, made_here: frozenset[str]) -> bool:
    """Tell whether the device is this file's, though it may have another local address.

    Without IPsec cablectl leaves no mark of a cable: then the address must be one that is lost.
    """
    if cables[0].connections:
        return any(cable.id in made_here for cable in cables)
    info = whole.overlay.link.info if whole.overlay.link else {}
    local = info.get("local") or info.get("local6")
    return local is not None and str(local) not in whole.held


def _by_cable(connections: dict[str, LoadedConnection]) -> Names:
    """Return the names of connections by the name of their cable."""
    names: Names = defaultdict(list)
    for name, loaded in connections.items():
        names[pluto.cable_of(name, loaded)].append(name)
    return names


def _by_remote(
    connections: dict[str, LoadedConnection], address_of: Callable[[Side], str]
) -> Names:
    """Return the names of cables' connections by an address of the other end."""
    names: Names = defaultdict(list)
    for name, loaded in connections.items():
        if loaded.selectors and pluto.cable_of(name, loaded):
            names[address_of(loaded.selectors.remote)].append(name)
    return names


def _gateway(side: Side) -> str:
    """Return the address of the gateway; empty if it may be any."""
    return side.host or ""


def _underlay(side: Side) -> str:
    """Return the address that the packets of an overlay have."""
    return side.network.partition("/")[0]


def _leads_to(known: str, cable: Cable, underlay: AnyAddress) -> bool:
    """Tell whether a cable's id may be that of the peer with this underlay address."""
    if cable.mode is not Mode.TUNNEL:
        return known.endswith(f"-{dashed(underlay)}")
    return any(
        underlay == vtep(bits, cable.underlay_network).ip
        for cluster, address in readings(known)
        for bits in (int(address), number_of(cluster))
    )


def _connections(
    cable: Cable, connections: dict[str, LoadedConnection], by_cable: Names
) -> dict[str, LoadedConnection]:
    """Return the loaded connections with the cable's name, also those of an unknown form."""
    wanted = (connection.name for connection in cable.connections)
    names = (*by_cable.get(cable.remote.cable_name, ()), *wanted)
    return {name: connections[name] for name in names if name in connections}


def _former(
    cable: Cable,
    connections: dict[str, LoadedConnection],
    by_gateway: Names,
    made_here: frozenset[str],
) -> dict[str, str]:
    """Return connections that cablectl made for the same peer under another name.

    They are the names of the connections, each with the id of its cable.
    """
    former = {}
    for name in by_gateway.get(str(cable.remote_host), ()):
        owner = pluto.cable_of(name, connections[name])
        if owner == cable.remote.cable_name or cable_id(owner) not in made_here:
            continue
        wanted = map(pluto.selectors, cable.connections)
        if any(connections[name].joins(selectors) for selectors in wanted):
            former[name] = cable_id(owner)
    return former


def _to_unload(cable: Cable, earlier: tuple[EarlierGateway, ...]) -> dict[str, str]:
    """Return connections that pluto would find in use already, or would take for the new ones.

    A server in tunnel mode knows its client by identities that stay the same with an overlay. If
    the client uses the old connection, it loses its IKE SA with that connection.
    """
    server = any(not connection.routed for connection in cable.connections)
    if not (cable.joins_subnets or server):
        return {}
    return {name: gateway.id for gateway in earlier for name in gateway.connections}


def _policies_of_each(
    cables: tuple[Cable, ...], installed: dict[Policy, int]
) -> list[dict[Policy, int]]:
    """Return each cable's own policies that are installed, with their reqids."""
    wanted = (xfrm.policies_of(cable.connections) for cable in cables)
    return [
        {policy: installed[policy] for policy in policies if policy in installed}
        for policies in wanted
    ]


def _by_reqid(
    shares: list[dict[Policy, int]], sas: tuple[SecurityAssociation, ...]
) -> tuple[dict[int, list[SecurityAssociation]], tuple[SecurityAssociation, ...]]:
    """Return the cables' SAs by the reqid of their policies, and all other SAs."""
    known = {reqid for policies in shares for reqid in policies.values()} - {0}
    by_reqid: dict[int, list[SecurityAssociation]] = defaultdict(list)
    others = []
    for sa in sas:
        if sa.reqid in known:
            by_reqid[sa.reqid].append(sa)
        else:
            others.append(sa)
    return by_reqid, tuple(others)


def _by_peer(whole: OverlayFacts) -> _ByPeer:
    """Index what the kernel holds of the overlay by the peer that it leads to."""
    by_peer = _ByPeer(defaultdict(set), defaultdict(set), defaultdict(set))
    for entry in whole.fdb:
        by_peer.fdb[entry[1]].add(entry)
    for neighbour in whole.neighbours:
        by_peer.neighbours[neighbour[0]].add(neighbour)
    for route in whole.routes:
        by_peer.routes[route[1]].add(route)
    return by_peer


def _overlay(cable: Cable, whole: OverlayFacts, by_peer: _ByPeer) -> OverlayFacts:
    """Return what the kernel holds of the overlay for one peer."""
    peer_vtep, underlay = str(cable.remote_vtep.ip), str(cable.remote_underlay)
    return replace(
        whole,
        fdb=frozenset(by_peer.fdb[underlay]),
        neighbours=frozenset(by_peer.neighbours[peer_vtep]),
        routes=by_peer.routes_to(peer_vtep, underlay),
        device_routes=whole.routes,
    )


def _stale_peers(
    cables: tuple[Cable, ...],
    whole: Facts,
    by_peer: _ByPeer,
    by_underlay: Names,
    made_here: frozenset[str],
) -> Iterator[StalePeer]:
    """Yield the device's other peers, known by the MAC that connect derives from an address."""
    first, link = cables[0], whole.overlay.link
    wish = first.overlay
    if not (wish and link and link.ours):
        return
    if not wish.serves_all_peers:
        yield from _stale_vteps(first, by_peer)
        return
    for gateway in sorted(by_peer.fdb.keys() - {str(cable.remote_underlay) for cable in cables}):
        address = ip_address(gateway)
        if (mac_of(address), gateway) not in by_peer.fdb[gateway]:
            continue
        names = [
            name
            for name in by_underlay.get(gateway, ())
            if _carries(whole.connections[name], wish.port_number)
        ]
        ids = {cable_id(pluto.cable_of(name, whole.connections[name])) for name in names}
        ids = ids or {known for known in made_here if _leads_to(known, first, address)}
        peer_vtep = str(vtep(int(address), first.vtep_network).ip)
        yield StalePeer(
            id=min(ids, default=dashed(address)),
            gateway=gateway,
            fdb=frozenset(by_peer.fdb[gateway]),
            neighbours=frozenset(by_peer.neighbours[peer_vtep]),
            routes=by_peer.routes_to(peer_vtep, gateway),
            connections=tuple(names),
            made_here=bool(ids & made_here),
        )


def _stale_vteps(cable: Cable, by_peer: _ByPeer) -> Iterator[StalePeer]:
    """Yield the earlier peers of a device for one peer; their connections are found otherwise."""
    own = {str(cable.remote_vtep.ip), str(cable.remote_underlay)}
    for stale in sorted({*by_peer.neighbours, *by_peer.routes} - own):
        neighbours = {pair for pair in by_peer.neighbours[stale] if pair[1].startswith(MACS)}
        if neighbours or by_peer.routes[stale]:
            yield StalePeer(
                id=cable.id,
                gateway=stale,
                neighbours=frozenset(neighbours),
                routes=frozenset(by_peer.routes[stale]),
            )


def _carries(connection: LoadedConnection, overlay_port: int | None) -> bool:
    """Tell whether a connection's selectors have the overlay's port."""
    ends = connection.selectors
    return ends is not None and overlay_port in (ends.local.port, ends.remote.port)
