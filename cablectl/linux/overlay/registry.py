"""All overlays: the one that a file wishes, and the ones that a host may have."""

from typing import assert_never

from cablectl.linux.overlay.geneve import GeneveOverlay
from cablectl.linux.overlay.gre import GreOverlay
from cablectl.linux.overlay.ipip import IpipOverlay
from cablectl.linux.overlay.protocol import GROUP, Overlay
from cablectl.linux.overlay.vxlan import VxlanOverlay
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, Geneve, Gre, Ipip, OverlayWish, Vxlan


def overlay_of(wish: OverlayWish) -> Overlay:
    """Return the overlay that a file wishes."""
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


def kinds() -> tuple[type[Overlay], ...]:
    """Return every kind of overlay."""
    return tuple(type(overlay_of(wish())) for wish in OVERLAYS.values())


def add_link(cable: Cable, wish: OverlayWish, mtu: int) -> Argv:
    """Create the device, down, with its identity, its mark and its MTU in bytes from the start."""
    overlay = overlay_of(wish)
    return (
        *("ip", "link", "add", "dev", wish.device),
        *(("address", cable.local.mac) if overlay.has_macs else ()),
        *("group", GROUP, "mtu", str(mtu), *overlay.link_type(cable)),
    )
