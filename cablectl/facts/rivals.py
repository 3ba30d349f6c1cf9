"""Devices of others beside which the kernel refuses the cable's device."""

from collections.abc import Iterator, Mapping
from typing import NamedTuple

from cablectl.facts.host_facts import Link
from cablectl.linux.overlay.protocol import Clash
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable


class Rival(NamedTuple):
    """Another device, and why the kernel allows only one of both."""

    name: str
    clash: Clash
    present: bool  # whether the kernel refuses the cable's device now, or later the other one


def rivals(cable: Cable, links: Mapping[str, Link]) -> Iterator[Rival]:
    """Yield the rivals among the devices of a host."""
    wanted = cable.overlay
    if wanted is None:
        return
    own, overlay = links.get(wanted.device), overlay_of(wanted)
    works = own is not None and own.ours and own.up
    for name, link in links.items():
        clash = overlay.clash(cable, link.kind, link.info, up=True)
        if clash and name != wanted.device:
            now = overlay.clash(cable, link.kind, link.info, up=link.up)
            yield Rival(name, clash, now is not None and not works)


def remedy(cable: Cable, rival: Rival) -> str:
    """Return what to do about a rival."""
    removal = f"remove {rival.name} if nobody needs it"
    if not (rival.clash.field and cable.overlay):
        return removal
    field = f"{cable.overlay.kind}.{rival.clash.field}"
    return f"choose another {field} in the file of both ends, or {removal}"
