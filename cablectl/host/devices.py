"""Facts of the overlay: devices, addresses, neighbours, forwarding entries, settings."""

from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cablectl.facts.host_facts import Link, OverlayFacts
from cablectl.host import probe, routing
from cablectl.linux import iproute
from cablectl.linux.overlay.protocol import UDP_KINDS
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, Mode, OverlayWish


def addresses() -> frozenset[str]:
    """Return the addresses that this host holds."""
    return addresses_of(links())


def addresses_of(present: Mapping[str, Link]) -> frozenset[str]:
    """Return the addresses of these devices, without their prefix lengths."""
    return frozenset(
        address.partition("/")[0] for link in present.values() for address in link.addresses
    )


def leaves_with(cable: Cable) -> str:
    """Return the source address of a device's packets, if only the host's route decides it.

    In tunnel mode cablectl's own route to the peer does.
    """
    by_route = cable.overlay and overlay_of(cable.overlay).leaves_by_route
    if not by_route or cable.mode is Mode.TUNNEL:
        return ""
    (route,) = probe.json("ip", "-j", "route", "get", str(cable.remote_underlay))
    return str(route.get("prefsrc", ""))


def source_towards(remote: AnyAddress) -> str:
    """Return the address with which this host's packets to a peer leave; empty without a route."""
    routes = probe.decoded(probe.if_any("ip", "-j", "route", "get", str(remote)))
    return str(routes[0].get("prefsrc", "")) if routes else ""


def source_address(cable: Cable, held: frozenset[str]) -> str:
    """Return this host's lowest address in its cluster's subnets; empty if there is none."""
    inside = (
        address
        for address in map(ip_address, held)
        for subnet in cable.local.networks
        if address in subnet
    )
    return str(min(inside, key=int, default=""))


def overlay_facts(cable: Cable, wanted: OverlayWish, links: Mapping[str, Link]) -> OverlayFacts:
    """Return the kernel's state of the overlay, for all peers together; `links` are all devices."""
    device, present = wanted.device, dict(links)
    link, routed = present.pop(device, None), routing.overlay_facts(cable, device)
    kind, _ = overlay_of(wanted).link_info(cable)
    peers = frozenset(other.peer for other in present.values() if other.ours and other.peer)
    rivals = {name: each for name, each in present.items() if each.kind in (kind, *UDP_KINDS)}
    routed = replace(routed, other_peers=peers, others=rivals)
    if link is None:
        return routed
    return replace(
        routed,
        link=link,
        fdb=frozenset(
            (entry["mac"], entry["dst"])
            for entry in probe.json("bridge", "-j", "fdb", "show", "dev", device)
            if "dst" in entry
        ),
        neighbours=frozenset(
            (entry["dst"], entry["lladdr"])
            for entry in probe.json("ip", "-j", "neigh", "show", "dev", device, "nud", "permanent")
            if "lladdr" in entry
        ),
        settings=frozenset((path, _setting(path)) for path, _ in iproute.settings(cable, wanted)),
    )


def links() -> dict[str, Link]:
    """Return all devices by name."""
    listed = probe.json("ip", "-N", "-d", "-j", "address")  # -N: numbers for tables and groups
    return {link["ifname"]: _link(link) for link in listed if "ifname" in link}


def _link(link: dict[str, Any]) -> Link:
    info = link.get("linkinfo", {})
    return Link(
        kind=info.get("info_kind", ""),
        group=link.get("group", ""),
        mac=link.get("address", ""),
        mtu=link["mtu"],
        up="UP" in link["flags"],
        info=info.get("info_data", {}),
        addresses=frozenset(
            f"{address['local']}/{address['prefixlen']}" for address in link.get("addr_info", ())
        ),
    )


def _setting(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:  # such as a host without IPv6
        return ""
