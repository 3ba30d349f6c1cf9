"""All overlays: `overlay_of` for the overlay of a file, `kinds` to search a host for overlays."""

from typing import assert_never

from cablectl.linux.mtu import IP_HEADER
from cablectl.linux.overlay.geneve import GeneveOverlay
from cablectl.linux.overlay.gre import GreOverlay
from cablectl.linux.overlay.ipip import IpipOverlay
from cablectl.linux.overlay.protocol import GROUP, Overlay
from cablectl.linux.overlay.vxlan import VxlanOverlay
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, Geneve, Gre, Ipip, Mode, OverlayWish, Vxlan


def overlay_of(wish: OverlayWish) -> Overlay:
    """Return the overlay of a file's wish."""
    match wish:
        case Vxlan():
            return VxlanOverlay(wish)
        case Geneve():
            return GeneveOverlay(wish)
        case Gre():
            return GreOverlay(wish)
        case Ipip():
            return IpipOverlay(wish)
        case _:
            assert_never(wish)


def headers_of(cable: Cable, wish: OverlayWish) -> int:
    """Return the length in bytes of the headers between the outer IP header and the inner packet.

    In tunnel mode they include the IP header of the overlay's packets, which ESP carries as well.
    """
    inner = IP_HEADER[cable.local.address.version] if cable.mode is Mode.TUNNEL else 0
    return overlay_of(wish).headers + inner


def change_link(cable: Cable, wish: OverlayWish, mtu: int, *, other_mac: bool) -> Argv:
    """Give the device the cable's addresses; its routes and its own addresses stay.

    `mtu` is in bytes: without it, the kernel chooses another one, unless the device keeps its MTU.
    `other_mac` gives the device the MAC of the local VTEP as well.
    """
    overlay = overlay_of(wish)
    return (
        *("ip", "link", "set", "dev", wish.device),
        *(("address", cable.mac_of(cable.local)) if other_mac else ()),
        *(() if overlay.keeps_mtu else ("mtu", str(mtu))),
        *overlay.link_change(cable),
    )


def kinds() -> tuple[type[Overlay], ...]:
    """Return the class of every overlay."""
    return tuple(type(overlay_of(wish())) for wish in OVERLAYS.values())


def add_link(cable: Cable, wish: OverlayWish, mtu: int) -> Argv:
    """Create the device, which is down; `mtu` is in bytes, the group marks it as cablectl's own."""
    overlay = overlay_of(wish)
    return (
        *("ip", "link", "add", "dev", wish.device),
        *(("address", cable.mac_of(cable.local)) if overlay.has_macs else ()),
        *("group", GROUP, "mtu", str(mtu), *overlay.link_type(cable)),
    )
