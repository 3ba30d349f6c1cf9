"""The VXLAN overlay (RFC 7348), as iproute2 makes it."""

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import IANA_VXLAN_PORT, Forwarding, Vxlan

HEADERS = 8 + 8 + 14  # UDP, VXLAN (RFC 7348, section 5), Ethernet
# Frames without an entry of their own, such as broadcast and multicast, go to its gateways: OSPF
# and IPv6 neighbour discovery need that. In a mesh each would be sent to every peer.
ANY_MAC = "00:00:00:00:00:00"


def link_type(cable: Cable, vxlan: Vxlan) -> Argv:
    """Return what makes a device a VXLAN's; it learns nothing, since the peer is known."""
    return (
        *("type", "vxlan", "id", str(vxlan.vni), "local", str(cable.local.address)),
        *("dstport", str(port(vxlan)), "nolearning"),
    )


def link_info(cable: Cable, vxlan: Vxlan) -> tuple[str, dict[str, object]]:
    """Return kind and attributes, as `ip -d -j link` names them."""
    local = "local" if cable.local.address.version == 4 else "local6"
    return "vxlan", {"id": vxlan.vni, "port": port(vxlan), local: str(cable.local.address)}


def fdb_entries(cable: Cable, vxlan: Vxlan) -> tuple[tuple[str, str], ...]:
    """Return (MAC, gateway) pairs: which gateway a frame for a MAC goes to."""
    gateway = str(cable.remote_host)
    entries = ((cable.remote.mac, gateway), (ANY_MAC, gateway))
    return entries[:1] if vxlan.forwarding is Forwarding.STATIC else entries


def fdb(vxlan: Vxlan, verb: str, mac: str, gateway: str) -> Argv:
    """Append or delete one forwarding entry."""
    entry = (mac, "dev", vxlan.device, "dst", gateway)
    return ("bridge", "fdb", verb, *entry, "self", "permanent")


def port(vxlan: Vxlan) -> int:
    """Return the port as `ip link` takes it."""
    return IANA_VXLAN_PORT if isinstance(vxlan.port, str) else vxlan.port
