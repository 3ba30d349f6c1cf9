"""Recognizes a cable from its traces on a host, without a file.

The names and selectors of pluto's connections show both ends, the mode and the traffic. The device
that fits them shows the rest of the overlay. Everything else has the default of the file, so the
guard is expected. The remote subnets of an overlay, and whether frames are flooded, stay unknown.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_interface, ip_network

from msgspec.structs import replace

from cablectl.facts.host_facts import Link
from cablectl.linux.overlay.registry import kinds, overlay_of
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.vteps import host_bits, vtep
from cablectl.model.wishes import (
    CABLE,
    VTEP_NETWORKS,
    AnyAddress,
    AnyNetwork,
    Endpoint,
    IpProtocol,
    Ipsec,
    Mode,
    OverlayWish,
    Routes,
    dashed,
)

Links = Mapping[str, Link]  # by name
EVERYTHING: dict[int, AnyNetwork] = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}
HERE = "here"  # the name of the local cluster leaves no trace


def cable(
    name: str,
    connections: tuple[Connection, ...],
    links: Links,
    routes: Mapping[str, Routes] = {},
) -> Cable | None:
    """Return the cable with these connections; None if cablectl makes no such cable.

    `routes` has the table and the priority by device.
    """
    first, *_ = connections
    remote = _remote(name, first)
    if first.local.host is None or remote is None:
        return None
    bare = Cable(
        local=Endpoint(
            cluster=HERE,
            hostname=HERE,
            address=first.local.host,
            preferred_server=not first.routed,
            ike_port=first.local.ike_port,
        ),
        remote=remote,
        mode=first.mode,
        ipsec=Ipsec(),
        overlay=None,
        guard=True,
        vtep_network=VTEP_NETWORKS[first.local.host.version],
        underlay_network=EVERYTHING[first.local.host.version],
        traced=True,
    )
    if first.mode is Mode.TUNNEL and first.local.protocol is None:
        return _with_subnets(bare, connections)
    if first.mode is Mode.TUNNEL:
        bare = _with_underlay(bare, first)
    found = _with_overlay(bare, connections, links)
    if found and found.overlay and found.overlay.device in routes:
        return replace(found, routes=routes[found.overlay.device])
    return found


def _remote(name: str, first: Connection) -> Endpoint | None:
    """Return the other end; behind NAT, the cable's name has its private address."""
    host, version = first.remote.host, first.remote.network.version
    separator = "." if version == 4 else ":"
    words = name.removeprefix(CABLE).split("-")
    address = host
    if host is None or not name.endswith(f"-{dashed(host)}"):
        endings = (separator.join(words[i:]) for i in range(1, len(words)))
        addresses = (_address(ending, version) for ending in endings)
        address = next((candidate for candidate in addresses if candidate), None)
    if address is None:
        return None
    return Endpoint(
        cluster=name.removeprefix(CABLE).removesuffix(f"-{dashed(address)}"),
        hostname=str(address),
        address=address,
        public_address=None if host == address else host,
        ike_port=first.remote.ike_port,
    )


def _address(text: str, version: int) -> AnyAddress | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return address if address.version == version else None


def _with_subnets(bare: Cable, connections: tuple[Connection, ...]) -> Cable | None:
    """Add the subnets of both ends: a name ends in the local and the remote subnet's index."""
    local: dict[str, AnyNetwork] = {}
    remote: dict[str, AnyNetwork] = {}
    for connection in connections:
        _, local_index, remote_index = connection.name.rsplit("-", 2)
        local[local_index] = connection.local.network
        remote[remote_index] = connection.remote.network
    local_subnets, remote_subnets = _in_order(local), _in_order(remote)
    if local_subnets is None or remote_subnets is None:
        return None
    return replace(
        bare,
        local=replace(bare.local, subnets=local_subnets),
        remote=replace(bare.remote, subnets=remote_subnets),
    )


def _in_order(subnets: dict[str, AnyNetwork]) -> tuple[AnyNetwork, ...] | None:
    """Return subnets in the order of their indexes; None if an index is missing."""
    indexes = [str(number) for number in range(len(subnets))]
    return tuple(subnets[i] for i in indexes) if subnets.keys() == set(indexes) else None


def _with_underlay(bare: Cable, first: Connection) -> Cable:
    """Add the addresses of the overlay's packets, whatever their network is."""
    ends = ((bare.local, first.local), (bare.remote, first.remote))
    bits = {end.cluster: int(selector.network.network_address) for end, selector in ends}
    return replace(bare, twins=bits)


def _with_overlay(bare: Cable, connections: tuple[Connection, ...], links: Links) -> Cable | None:
    """Add the overlay with the connections' protocol and port; None if no overlay has them."""
    protocol = connections[0].local.protocol
    if protocol is None:
        return bare
    ports = (end.port_number for connection in connections for end in connection.ends)
    port = next((port for port in ports if port), None)
    fitting: dict[str, OverlayWish] = {}
    for device, link in links.items():
        for kind in kinds():
            wish = kind.from_link(device, link.kind, link.info)
            if wish and _speaks(wish, bare, protocol, port) and _is_device_of(bare, wish, link):
                fitting[device] = wish
    ours = [wish for device, wish in fitting.items() if links[device].ours]
    for wish in (*ours, *fitting.values()):
        return replace(bare, overlay=wish, vtep_network=_network(bare, links[wish.device]))
    # The device is missing: its usual name and identity.
    guesses = (kind.from_selector(protocol, port) for kind in kinds())
    missing = next((wish for wish in guesses if wish), None)
    return replace(bare, overlay=missing) if missing else None


def _speaks(wish: OverlayWish, bare: Cable, protocol: IpProtocol, port: int | None) -> bool:
    return (wish.protocol(bare.local.address.version), wish.port_number) == (protocol, port)


def _is_device_of(bare: Cable, wish: OverlayWish, link: Link) -> bool:
    kind, info = overlay_of(wish).link_info(bare)
    return kind == link.kind and info.items() <= link.info.items()


def _network(bare: Cable, link: Link) -> AnyNetwork:
    """Return the network of the VTEPs, judged by the device's own address."""
    for held in map(ip_interface, link.addresses):
        is_underlay = bare.mode is Mode.TUNNEL and held.ip == bare.local_underlay
        if vtep(host_bits(bare.local, bare.twins), held.network) == held and not is_underlay:
            return held.network
    return bare.vtep_network
