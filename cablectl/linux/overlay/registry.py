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


def change_peer(cable: Cable, wish: OverlayWish, mtu: int) -> Argv:
    """Let a device for one peer lead to the cable's peer; its routes and addresses stay.

    `mtu` is in bytes: without it, the kernel chooses another one.
    """
    change = overlay_of(wish).link_change(cable)
    return ("ip", "link", "set", "dev", wish.device, "mtu", str(mtu), *change)


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
