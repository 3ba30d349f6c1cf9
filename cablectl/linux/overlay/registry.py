"""Overlays: what each kind's device is made of, and what it costs in each packet."""

from cablectl.linux.overlay import geneve, gre, vxlan
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Geneve, Gre, Overlay, Vxlan

GROUP = "241"  # marks a device as cablectl's own from the moment it is there (ip-link(8))


def headers(overlay: Overlay) -> int:
    """Return how many bytes the overlay puts before an IP packet, its outer IP header left out."""
    match overlay:
        case Vxlan():
            return vxlan.HEADERS
        case Geneve():
            return geneve.HEADERS
        case Gre():
            return gre.HEADERS


def add_link(cable: Cable, overlay: Overlay, mtu: int) -> Argv:
    """Create the device, down, with its identity, its mark and its MTU in bytes from the start."""
    return (
        *("ip", "link", "add", "dev", overlay.device),
        *(("address", cable.local.mac) if has_macs(overlay) else ()),
        *("group", GROUP, "mtu", str(mtu), *_type(cable, overlay)),
    )


def _type(cable: Cable, overlay: Overlay) -> Argv:
    match overlay:
        case Vxlan():
            return vxlan.link_type(cable, overlay)
        case Geneve():
            return geneve.link_type(cable, overlay)
        case Gre():
            return gre.link_type(cable, overlay)


def link_info(cable: Cable, overlay: Overlay) -> tuple[str, dict[str, object]]:
    """Return kind and attributes that `ip -d -j link` shows of a device that was made for this."""
    match overlay:
        case Vxlan():
            return vxlan.link_info(cable, overlay)
        case Geneve():
            return geneve.link_info(cable, overlay)
        case Gre():
            return gre.link_info(cable, overlay)


def has_macs(overlay: Overlay) -> bool:
    """Tell whether the overlay carries Ethernet frames, so that VTEPs are neighbours."""
    return not isinstance(overlay, Gre)


def fdb_entries(cable: Cable, overlay: Overlay) -> tuple[tuple[str, str], ...]:
    """Return (MAC, gateway) pairs; only a VXLAN's device has more than one peer to tell apart."""
    return vxlan.fdb_entries(cable, overlay) if isinstance(overlay, Vxlan) else ()
