"""The VXLAN overlay of a cable (RFC 7348), as iproute2 makes it.

Addresses and table are those of Submariner's VXLAN driver: the VTEP's address is the gateway's with
241 in front, the remote subnets stand in table 100 behind a rule of priority 100. What is
cablectl's own can be told by the device's MAC, which the local address gives, and by the routing
protocol number of routes and rule (rtnetlink(7): above 4 it is the user's to choose).
"""

from cablectl.libreswan import Argv
from cablectl.model import Cable

TABLE = "100"
PRIORITY = "100"
METRIC = "100"
PROTOCOL = "241"
# Broadcast and multicast go to the peer as well: OSPF and IPv6 neighbour discovery need them.
ANY_MAC = "00:00:00:00:00:00"
_RULE: Argv = ("from", "all", "lookup", TABLE, "pref", PRIORITY, "protocol", PROTOCOL)


def add_link(cable: Cable, mtu: int) -> Argv:
    """Create the device, down, with its identity and its MTU in bytes from the start."""
    vxlan, local = cable.vxlan, cable.local
    return (
        *("ip", "link", "add", "dev", vxlan.device, "address", local.vtep_mac, "mtu", str(mtu)),
        *("type", "vxlan", "id", str(vxlan.vni), "local", str(local.address)),
        *("dstport", str(vxlan.port_number), "nolearning"),
    )


def set_mtu(cable: Cable, mtu: int) -> Argv:
    """Change the device's MTU, in bytes."""
    return ("ip", "link", "set", "dev", cable.vxlan.device, "mtu", str(mtu))


def delete_link(cable: Cable) -> Argv:
    """Remove the device, and with it all that stands on it."""
    return ("ip", "link", "delete", "dev", cable.vxlan.device)


def set_link(cable: Cable, state: str) -> Argv:
    """Bring the device up or down."""
    return ("ip", "link", "set", "dev", cable.vxlan.device, state)


def address(cable: Cable, verb: str) -> Argv:
    """Add or delete the address of the local VTEP."""
    return ("ip", "address", verb, str(cable.local.vtep), "dev", cable.vxlan.device)


def fdb_entries(cable: Cable) -> tuple[tuple[str, str], ...]:
    """Return (MAC, gateway) pairs: which gateway a frame for a MAC goes to."""
    gateway = str(cable.remote.address)
    return ((cable.remote.vtep_mac, gateway), (ANY_MAC, gateway))


def fdb(cable: Cable, verb: str, mac: str, gateway: str) -> Argv:
    """Append or delete one forwarding entry."""
    return (
        "bridge",
        "fdb",
        verb,
        mac,
        "dev",
        cable.vxlan.device,
        "dst",
        gateway,
        "self",
        "permanent",
    )


def neighbour(cable: Cable, verb: str) -> Argv:
    """Add or delete the entry that spares the remote VTEP an ARP request."""
    entry = (str(cable.remote.vtep.ip), "lladdr", cable.remote.vtep_mac)
    return ("ip", "neigh", verb, *entry, "dev", cable.vxlan.device, "nud", "permanent")


def routes(cable: Cable) -> tuple[tuple[str, str], ...]:
    """Return (subnet, VTEP) pairs: the remote cluster's subnets and their next hop."""
    return tuple((str(subnet), str(cable.remote.vtep.ip)) for subnet in cable.remote.subnets)


def route(cable: Cable, verb: str, subnet: str, vtep: str) -> Argv:
    """Add or delete the route to one of the remote subnets."""
    return (
        *("ip", "route", verb, subnet, "via", vtep, "dev", cable.vxlan.device),
        *("table", TABLE, "metric", METRIC, "proto", PROTOCOL),
    )


def rule(verb: str) -> Argv:
    """Add or delete the rule that has the table looked up."""
    return ("ip", "rule", verb, *_RULE)
