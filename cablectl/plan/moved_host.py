"""Facts of a device with addresses of an earlier file → the steps that give it the present ones.

The device is changed and not made again, so every packet for the remote subnets always has a route
through it.
"""

from collections.abc import Iterator

from msgspec.structs import replace

from cablectl.facts import earlier_devices
from cablectl.facts.host_facts import Facts, Link
from cablectl.linux import iproute
from cablectl.linux.overlay.registry import change_link, overlay_of
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import OverlayWish
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Change, Phase, Step


def device(pairs: Pairs, wanted: OverlayWish, size: int) -> Iterator[Step]:
    """Yield the step that gives the device its new addresses; `size` is its MTU in bytes."""
    cable, facts = pairs[0]
    link = facts.overlay.link
    if link is None or not earlier_devices.is_of_earlier_file(cable, facts, wanted):
        return
    change = change_link(
        cable, wanted, size, other_mac=earlier_devices.other_mac(cable, link, wanted)
    )
    # The guard may know the device's packets by their addresses. Then the device must not send with
    # this host's old one after the old connections are unloaded.
    has_moved = earlier_devices.has_moved(cable, link, wanted)
    early = has_moved and not overlay_of(wanted).accepts_any_source
    yield Step(
        phase=Phase.GUARD if early else Phase.OVERLAY,
        argv=change,
        why="; ".join(f"it {text}" for text in earlier_devices.differences(cable, link, wanted)),
        undo=(_as_before(change, link), *_neighbours(pairs, wanted)),
        kind=Change.ALTER,
    )


def _as_before(change: Argv, link: Link) -> Argv:
    """Return the command that gives the device back what it has now."""
    info = link.info
    before = {
        "address": link.mac,
        "mtu": str(link.mtu),
        "local": str(info.get("local") or info.get("local6")),
        "remote": link.peer,
    }
    words = ("", *change[:-1])
    return tuple(before.get(last, word) for last, word in zip(words, change, strict=True))


def _neighbours(pairs: Pairs, wanted: OverlayWish) -> Iterator[Argv]:
    """Yield the commands that restore the neighbours, which the kernel forgets with the MAC."""
    if not earlier_devices.gets_other_mac(*pairs[0]):
        return
    for _, facts in pairs:
        for entry in sorted(facts.overlay.neighbours):
            yield iproute.neighbour(wanted, "replace", *entry)


def without_neighbours(pairs: Pairs) -> list[tuple[Cable, Facts]]:
    """Return the facts as they are after the step: with another MAC, the kernel forgets neighbours.

    arp(7) and ndisc of Linux flush them at a change of the address, also the permanent ones.
    """
    if not earlier_devices.gets_other_mac(*pairs[0]):
        return list(pairs)
    return [(cable, _without_neighbours(facts)) for cable, facts in pairs]


def _without_neighbours(facts: Facts) -> Facts:
    nothing = frozenset[tuple[str, str]]()
    stale = tuple(replace(peer, neighbours=nothing) for peer in facts.overlay.stale_peers)
    return replace(facts, overlay=replace(facts.overlay, neighbours=nothing, stale_peers=stale))


def addresses(pairs: Pairs, wanted: OverlayWish) -> Iterator[Step]:
    """Yield the steps that remove the device's earlier addresses, once the new routes work."""
    cable, facts = pairs[0]
    link = facts.overlay.link
    old = earlier_devices.old_addresses(cable, link) if link and link.ours else []
    if any(each.version == 4 for each in old):
        path = f"{iproute.SYSCTL}/ipv4/conf/{wanted.device}/promote_secondaries"
        yield Step(
            phase=Phase.UP,
            argv=iproute.set_setting(path, "1"),
            why="else the new address of the device goes with the old one; removed with the device",
        )
    for held in old:
        yield Step(
            phase=Phase.UP,
            argv=iproute.address(held, wanted, "delete"),
            why="it follows from an earlier address of this host",
            undo=(iproute.address(held, wanted, "add"),),
            kind=Change.REMOVE,
        )
