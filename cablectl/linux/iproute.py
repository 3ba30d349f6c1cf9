"""The overlay's network, the same for every kind: address, neighbour, settings, routes, rule.

Addresses and table are those of Submariner's VXLAN driver: the VTEP's address is the gateway's with
the overlay's network in front, the remote subnets stand in table 100 behind a rule of priority 100.
What is cablectl's own can be told by the device's group and by the routing protocol number of
routes and rule (rtnetlink(7): above 4 it is the user's to choose).
"""

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import OverlayWish

TABLE = "100"
PRIORITY = "100"
METRIC = "100"
PROTOCOL = "241"
SYSCTL = "/proc/sys/net"
# Frames without an entry of their own, such as broadcast and multicast, go to the gateways of this
# entry: OSPF and IPv6 neighbour discovery need that. In a mesh each would be sent to every peer.
ANY_MAC = "00:00:00:00:00:00"

# $1 is the file below /proc/sys, $2 the value; what the kernel then says has to be the same. Not
# by the shell's `read`, a byte at a time: such a file has one byte then and no line end.
_WRITE = 'echo "$2" >"$1" && [ "$(cat "$1")" = "$2" ]'

Route = tuple[str, str, str]  # subnet, VTEP, source address or nothing


def set_mtu(overlay: OverlayWish, mtu: int) -> Argv:
    """Change the device's MTU, in bytes."""
    return ("ip", "link", "set", "dev", overlay.device, "mtu", str(mtu))


def delete_link(overlay: OverlayWish) -> Argv:
    """Remove the device, and with it all that stands on it."""
    return ("ip", "link", "delete", "dev", overlay.device)


def set_link(overlay: OverlayWish, state: str) -> Argv:
    """Bring the device up or down."""
    return ("ip", "link", "set", "dev", overlay.device, state)


def address(cable: Cable, overlay: OverlayWish, verb: str) -> Argv:
    """Add or delete the address of the local VTEP, which needs no duplicate detection."""
    vtep = cable.local_vtep
    nodad = ("nodad",) if vtep.version == 6 and verb == "add" else ()
    return ("ip", "address", verb, str(vtep), "dev", overlay.device, *nodad)


def neighbour(overlay: OverlayWish, verb: str, vtep: str, mac: str) -> Argv:
    """Replace or delete the entry that spares a VTEP an ARP request, or a solicitation."""
    entry = (vtep, "lladdr", mac)
    return ("ip", "neigh", verb, *entry, "dev", overlay.device, "nud", "permanent")


def forwarding_entry(overlay: OverlayWish, verb: str, mac: str, gateway: str) -> Argv:
    """Append or delete the entry that sends frames for a MAC to a gateway."""
    entry = (mac, "dev", overlay.device, "dst", gateway)
    return ("bridge", "fdb", verb, *entry, "self", "permanent")


def settings(cable: Cable, overlay: OverlayWish) -> tuple[tuple[str, str], ...]:
    """Return (file, value) pairs: what the device has to let pass, as Submariner's driver sets it.

    Packets come in from subnets that are routed through the rule's table, which strict reverse path
    filtering (RFC 3704) may not see; IPv6 has no such filter.
    """
    if cable.local_vtep.version == 6:
        return ((f"{SYSCTL}/ipv6/conf/{overlay.device}/forwarding", "1"),)
    ours = f"{SYSCTL}/ipv4/conf/{overlay.device}"
    return ((f"{ours}/rp_filter", "2"), (f"{ours}/forwarding", "1"))


def set_setting(path: str, value: str) -> Argv:
    """Write a setting and read it back."""
    return ("sh", "-c", _WRITE, "sh", path, value)


def routes(cable: Cable, source: str) -> tuple[Route, ...]:
    """Return the remote cluster's subnets, their next hop, and which address speaks from here."""
    vtep = str(cable.remote_vtep.ip)
    return tuple((str(subnet), vtep, source) for subnet in cable.remote.networks)


def route(overlay: OverlayWish, verb: str, which: Route) -> Argv:
    """Add, replace or delete the route to one of the remote subnets."""
    subnet, vtep, source = which
    return (
        *("ip", "route", verb, subnet, "via", vtep, "dev", overlay.device),
        *("table", TABLE, "metric", METRIC, "proto", PROTOCOL),
        *(("src", source) if source and verb != "delete" else ()),
    )


def rule(cable: Cable, verb: str) -> Argv:
    """Add or delete the rule that has the table looked up."""
    family = ("-6",) if cable.local_vtep.version == 6 else ()
    what = ("from", "all", "lookup", TABLE, "pref", PRIORITY, "protocol", PROTOCOL)
    return ("ip", *family, "rule", verb, *what)
