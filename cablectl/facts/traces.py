"""The traces of a cable on a host → the cable, where no file says what it is.

The names and selectors of pluto's connections tell the ends, the mode and what they protect; the
device that fits them tells the rest of the overlay. What leaves no trace is as in a file that
doesn't mention it, so the guard is expected; the remote subnets of an overlay stay unknown,
and whether frames are flooded.
"""

from collections.abc import Mapping
from ipaddress import ip_address, ip_interface

from msgspec.structs import replace

from cablectl.facts.host_facts import Link
from cablectl.linux.overlay.registry import kinds, overlay_of
from cablectl.model.cable import Cable, Connection, vtep
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
    dashed,
)

Links = Mapping[str, Link]  # by name
HERE = "here"  # what the local cluster is called leaves no trace


def cable(name: str, connections: tuple[Connection, ...], links: Links) -> Cable | None:
    """Return the cable whose connections are called so; None if cablectl makes none like them."""
    first, *_ = connections
    remote = _remote(name, first)
    if first.local.host is None or remote is None:
        return None
    seen = Cable(
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
    )
    if first.mode is Mode.TUNNEL:
        return _with_subnets(seen, connections)
    return _with_overlay(seen, connections, links)


def _remote(name: str, first: Connection) -> Endpoint | None:
    """Return the other end; behind NAT its name has the address that it knows itself by."""
    host, version = first.remote.host, first.remote.network.version
    separator = "." if version == 4 else ":"
    words = name.removeprefix(CABLE).split("-")
    address = host
    if host is None or not name.endswith(f"-{dashed(host)}"):
        ends = (separator.join(words[i:]) for i in range(1, len(words)))
        address = next((found for end in ends if (found := _address(end, version))), None)
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


def _with_subnets(seen: Cable, connections: tuple[Connection, ...]) -> Cable | None:
    """Add both ends' subnets: a name ends in the index of the local one and that of the remote."""
    ours: dict[str, AnyNetwork] = {}
    theirs: dict[str, AnyNetwork] = {}
    for each in connections:
        *_, i, j = each.name.split("-")
        ours[i], theirs[j] = each.local.network, each.remote.network
    local, remote = (_in_order(each) for each in (ours, theirs))
    if local is None or remote is None:
        return None
    return replace(
        seen,
        local=replace(seen.local, subnets=local),
        remote=replace(seen.remote, subnets=remote),
    )


def _in_order(subnets: dict[str, AnyNetwork]) -> tuple[AnyNetwork, ...] | None:
    whole = [str(number) for number in range(len(subnets))]
    return tuple(subnets[i] for i in whole) if subnets.keys() == set(whole) else None


def _with_overlay(seen: Cable, connections: tuple[Connection, ...], links: Links) -> Cable | None:
    """Add the overlay that speaks the connections' protocol on their port, if it is one."""
    protocol = connections[0].local.protocol
    if protocol is None:
        return seen
    ports = (end.port_number for each in connections for end in (each.local, each.remote))
    port = next((port for port in ports if port), None)
    fitting: dict[str, OverlayWish] = {}
    for device, link in links.items():
        for kind in kinds():
            wish = kind.from_link(device, link.kind, link.info)
            if wish and _speaks(wish, seen, protocol, port) and _made_alike(seen, wish, link):
                fitting[device] = wish
    ours = [wish for device, wish in fitting.items() if links[device].ours]
    for wish in (*ours, *fitting.values()):
        return replace(seen, overlay=wish, vtep_network=_network(seen, links[wish.device]))
    # The device is missing: its usual name and identity.
    guesses = (kind.from_selector(protocol, port) for kind in kinds())
    missing = next((wish for wish in guesses if wish), None)
    return replace(seen, overlay=missing) if missing else None


def _speaks(wish: OverlayWish, seen: Cable, protocol: IpProtocol, port: int | None) -> bool:
    return (wish.protocol(seen.local.address.version), wish.port_number) == (protocol, port)


def _made_alike(seen: Cable, wish: OverlayWish, link: Link) -> bool:
    kind, info = overlay_of(wish).link_info(seen)
    return kind == link.kind and info.items() <= link.info.items()


def _network(seen: Cable, link: Link) -> AnyNetwork:
    """Return where VTEPs have their addresses, by the device's own."""
    for held in map(ip_interface, link.addresses):
        if vtep(seen.local.address, held.network) == held:
            return held.network
    return seen.vtep_network
