"""Tells whether the cable's device only has addresses of an earlier file.

A gateway or its peer got another address since the device was made. connect then gives the device
the new addresses, and the routes through it stay.
"""

from collections.abc import Iterator
from ipaddress import ip_interface

from cablectl.facts.host_facts import Facts, Link
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.vteps import MACS, AnyInterface
from cablectl.model.wishes import Mode, OverlayWish

_LOCAL, _REMOTE = ("local", "local6"), ("remote", "remote6")  # by the names of `ip -d -j link`


def is_of_earlier_file(cable: Cable, facts: Facts, wanted: OverlayWish) -> bool:
    """Tell whether the device becomes the cable's own if it gets other addresses.

    A device that has another local address than the file may be another file's. It isn't if
    cablectl made a cable of this file here, or if this host has lost that address.
    """
    link = facts.overlay.link
    if link is None or not link.ours or link.fits(cable, wanted):
        return False
    kind, info = overlay_of(wanted).link_info(cable)
    same = {key: value for key, value in info.items() if key not in (*_LOCAL, *_REMOTE)}
    alike = (
        kind == link.kind and info.keys() <= link.info.keys() and same.items() <= link.info.items()
    )
    if overlay_of(wanted).has_macs:
        alike = alike and link.mac.startswith(MACS)
    return alike and (facts.overlay.known or not has_moved(cable, link, wanted))


def differences(cable: Cable, link: Link, wanted: OverlayWish) -> Iterator[str]:
    """Yield in which addresses such a device differs from the one that the cable needs."""
    _, info = overlay_of(wanted).link_info(cable)
    for key in _LOCAL:
        if key in info and link.info.get(key) != info[key]:
            yield f"sends from {link.info.get(key)}, this host's address of an earlier file"
    for key in _REMOTE:
        if key in info and link.info.get(key) != info[key]:
            yield f"leads to {link.info.get(key)}, the peer's gateway of an earlier file"
    if other_mac(cable, link, wanted):
        yield f"has the MAC {link.mac}, which follows from this host's address of an earlier file"


def has_moved(cable: Cable, link: Link, wanted: OverlayWish) -> bool:
    """Tell whether the device has another local address than the cable."""
    _, info = overlay_of(wanted).link_info(cable)
    other_address = any(link.info.get(key) != info[key] for key in _LOCAL if key in info)
    return other_address or other_mac(cable, link, wanted)


def other_mac(cable: Cable, link: Link, wanted: OverlayWish) -> bool:
    """Tell whether the device has another MAC than the cable's local VTEP."""
    return overlay_of(wanted).has_macs and link.mac != cable.mac_of(cable.local)


def gets_other_mac(cable: Cable, facts: Facts) -> bool:
    """Tell whether connect gives the device another MAC."""
    link, wanted = facts.overlay.link, cable.overlay
    if not (link and wanted and is_of_earlier_file(cable, facts, wanted)):
        return False
    return other_mac(cable, link, wanted)


def old_addresses(cable: Cable, link: Link) -> list[AnyInterface]:
    """Return the device's addresses that cablectl gave it for an earlier address of this host."""
    own, vteps = set(cable.device_addresses), cable.local_vtep.network
    return [
        held
        for held in sorted(map(ip_interface, link.addresses), key=str)
        if held not in own and (held.network == vteps or _is_old_underlay(cable, held))
    ]


def _is_old_underlay(cable: Cable, held: AnyInterface) -> bool:
    whole = held.network.prefixlen == held.max_prefixlen
    return cable.mode is Mode.TUNNEL and whole and held.ip in cable.underlay_network
