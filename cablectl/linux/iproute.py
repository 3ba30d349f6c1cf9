"""The ip and bridge commands that every overlay needs: address, neighbour, routes, rule, settings.

The addresses are those of Submariner's VXLAN driver: the VTEP's address is the gateway's host bits
within the VTEP network. The routes to the remote subnets are in a table of cablectl's own, which a
rule looks up (docs/adr/0005-routes.md). cablectl recognises its own objects by the device's group,
and by the routing protocol number of routes and rule (rtnetlink(7): users may choose any number
above 4).
"""

from typing import NamedTuple

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.connection import host_network
from cablectl.model.vteps import AnyInterface
from cablectl.model.wishes import Mode, OverlayWish

METRIC = "100"
PROTOCOL = "241"
SYSCTL = "/proc/sys/net"
# The forwarding entry for frames whose MAC has no entry, such as broadcast and multicast; OSPF and
# IPv6 neighbour discovery need it. In a mesh, such a frame would be sent to every peer.
ANY_MAC = "00:00:00:00:00:00"

# $1 is the file below /proc/sys, $2 the value; the kernel must then report that value. The shell's
# `read` doesn't work here: it reads byte by byte, and such a file ends after the first read.
_WRITE = 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]'

BLACKHOLE = "blackhole"
# Subnet, next hop (a VTEP; the underlay address that the subnet is; or BLACKHOLE), source or "".
Route = tuple[str, str, str]
# Bytes: IPsec limits packets to the underlay, and the device's MTU doesn't (ip-route(8)).
_LARGEST = "65535"


class OldRoute(NamedTuple):
    """A route of the cable's device that is in another table than the file's."""

    table: int
    route: Route


class Rule(NamedTuple):
    """A rule that looks up a table of cablectl's."""

    table: int
    priority: int
    to: str = ""  # the network of the packets; "" is any


def set_mtu(overlay: OverlayWish, mtu: int) -> Argv:
    """Change the device's MTU, in bytes."""
    return ("ip", "link", "set", "dev", overlay.device, "mtu", str(mtu))


def delete_link(overlay: OverlayWish) -> Argv:
    """Delete the device; the kernel also deletes the device's addresses, routes and neighbours."""
    return ("ip", "link", "delete", "dev", overlay.device)


def set_link(overlay: OverlayWish, state: str) -> Argv:
    """Bring the device up or down."""
    return ("ip", "link", "set", "dev", overlay.device, state)


def address(interface: AnyInterface, overlay: OverlayWish, verb: str) -> Argv:
    """Add or delete an address of the device; nodad, so that IPv6 can use it at once."""
    nodad = ("nodad",) if interface.version == 6 and verb == "add" else ()
    return ("ip", "address", verb, str(interface), "dev", overlay.device, *nodad)


def neighbour(overlay: OverlayWish, verb: str, vtep: str, mac: str) -> Argv:
    """Replace or delete a VTEP's MAC, so that ARP or neighbour discovery isn't needed."""
    entry = (vtep, "lladdr", mac)
    return ("ip", "neigh", verb, *entry, "dev", overlay.device, "nud", "permanent")


def forwarding_entry(overlay: OverlayWish, verb: str, mac: str, gateway: str) -> Argv:
    """Append or delete the entry that sends frames for a MAC to a gateway."""
    entry = (mac, "dev", overlay.device, "dst", gateway)
    return ("bridge", "fdb", verb, *entry, "self", "permanent")


def settings(cable: Cable, overlay: OverlayWish) -> tuple[tuple[str, str], ...]:
    """Return (file, value) pairs for the device, as Submariner's driver sets them.

    Strict reverse path filtering (RFC 3704) could drop packets from the remote subnets, since their
    routes are in the rule's table; so it becomes loose (2). IPv6 has no such filter.
    """
    if cable.local_vtep.version == 6:
        return ((f"{SYSCTL}/ipv6/conf/{overlay.device}/forwarding", "1"),)
    folder = f"{SYSCTL}/ipv4/conf/{overlay.device}"
    return ((f"{folder}/rp_filter", "2"), (f"{folder}/forwarding", "1"))


def set_setting(path: str, value: str) -> Argv:
    """Write a setting and read it back; the command fails if the kernel has another value."""
    return ("sh", "-c", _WRITE, "sh", path, value)


def routes(cable: Cable, source: str) -> tuple[Route, ...]:
    """Return the routes to the remote cluster's subnets; a `source` of "" sets no source.

    In tunnel mode there is one to the remote underlay address as well. It gives the overlay's
    packets their source. It leads to the overlay's device itself, so the kernel drops the packets
    unless a policy of IPsec leads them elsewhere. It has a next hop: for a neighbour, Libreswan's
    `_updown` would add another route, and an entry for proxy ARP.

    A detour's routes have the source addresses that the packets of the other cable have, so that
    nobody's address changes with the route.
    """
    vtep = str(cable.remote_vtep.ip)
    if cable.detour:
        source = source or str(cable.detour.local)
    subnets = tuple((str(subnet), vtep, source) for subnet in cable.routed_networks)
    if cable.detour and subnets:
        subnets = (*subnets[:-1], (*subnets[-1][:2], str(cable.detour.local)))
    if cable.mode is not Mode.TUNNEL:
        return subnets
    underlay = cable.remote_underlay
    way = str(host_network(underlay)), str(underlay), str(cable.local_underlay)
    return (way, *subnets)


def leads_to_underlay(route: Route) -> bool:
    """Tell whether a route is that of the overlay's packets to a peer."""
    return route[0].partition("/")[0] == route[1]


def route(overlay: OverlayWish, verb: str, wanted: Route, table: int) -> Argv:
    """Add, replace or delete one route in a table."""
    subnet, hop, source = wanted
    way = (subnet, "via", hop, "dev", overlay.device)
    underlay = leads_to_underlay(wanted) and verb != "delete"
    return (
        *("ip", "route", verb, *((hop, subnet) if hop == BLACKHOLE else way)),
        *("table", str(table), "metric", METRIC, "proto", PROTOCOL),
        *(("onlink", "mtu", _LARGEST) if underlay else ()),
        *(("src", source) if source and verb != "delete" else ()),
    )


def blackhole(cable: Cable) -> Route:
    """Return the route that lets no packet to an underlay address leave by the host's own routes.

    It is needed while the device is up and the routes to the peers aren't there yet, or no longer.
    """
    return str(cable.underlay_network), BLACKHOLE, ""


def table_rule(cable: Cable) -> Rule | None:
    """Return the rule that looks up the cable's table, for all peers.

    A detour has it in tunnel mode alone, for its overlay's packets: `moving_rules` has the others.
    """
    table, priority = cable.routes.table, cable.routes.priority
    if cable.detour is None:
        return Rule(table, priority)
    if cable.mode is Mode.TUNNEL:
        return Rule(table, priority, str(cable.underlay_network))
    return None


def moving_rules(cable: Cable) -> tuple[Rule, ...]:
    """Return the rules with which the traffic goes through a detour; none for another cable.

    Without them it goes through the cable again. Routes would do as well, but Linux discards what a
    process of the host is sending by a route that is being deleted. That to the other cable's VTEP
    comes last: it shows the peer that all traffic goes through the detour.
    """
    table, priority = cable.routes.table, cable.routes.priority
    to = cable.routed_networks if cable.detour else ()
    return tuple(Rule(table, priority, str(network)) for network in to)


def rule(cable: Cable, verb: str, wanted: Rule) -> Argv:
    """Add or delete a rule of the cable's version of IP."""
    family = ("-6",) if cable.local_vtep.version == 6 else ()
    to = ("to", wanted.to) if wanted.to else ()
    table = ("lookup", str(wanted.table), "pref", str(wanted.priority), "protocol", PROTOCOL)
    return ("ip", *family, "rule", verb, "from", "all", *to, *table)
