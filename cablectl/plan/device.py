"""Cable and facts → the steps that make the overlay's device, and bring it up with its routes."""

from collections.abc import Iterator
from functools import partial

from cablectl import overlay
from cablectl.cable import Cable
from cablectl.facts import Facts
from cablectl.libreswan import Argv
from cablectl.model import Overlay, Vxlan
from cablectl.overlay import network, vxlan
from cablectl.plan import Change, Phase, Step


def steps(cable: Cable, facts: Facts, wanted: Overlay, size: int) -> Iterator[Step]:
    """Yield the steps, in order; `size` is the device's MTU in bytes."""
    yield from _overlay(cable, facts, wanted, size)
    yield from _up(cable, facts, wanted)


def _overlay(cable: Cable, facts: Facts, wanted: Overlay, size: int) -> Iterator[Step]:
    """Make the device; what is put on one that is new goes with it, and needs no undo."""
    there, link = facts.overlay, facts.overlay.link
    step = partial(_made, Phase.OVERLAY)
    yield step(
        overlay.add_link(cable, wanted, size),
        f"the VTEP's device; {size} bytes fill the path's {facts.path_mtu}",
        network.delete_link(wanted),
        done=link is not None,
    )
    if link and link.mtu != size:
        undo = network.set_mtu(wanted, link.mtu)
        why = f"the device's MTU in bytes; it was {link.mtu}"
        yield step(network.set_mtu(wanted, size), why, undo, done=False, kind=Change.ALTER)
    yield step(
        network.address(cable, wanted, "add"),
        "the VTEP's address",
        network.address(cable, wanted, "delete") if link else None,
        done=link is not None and str(cable.local_vtep) in link.addresses,
    )
    if isinstance(wanted, Vxlan):
        for mac, gateway in vxlan.fdb_entries(cable):
            yield step(
                vxlan.fdb(wanted, "append", mac, gateway),
                "broadcast and multicast go to the peer"
                if mac == vxlan.ANY_MAC
                else "the peer's frames go to the peer",
                vxlan.fdb(wanted, "delete", mac, gateway) if link else None,
                done=(mac, gateway) in there.fdb,
            )
    for path, value in network.settings(cable, wanted):
        yield Step(
            phase=Phase.OVERLAY,
            argv=network.set_setting(path, value),
            why=f"the device's {path.rpartition('/')[2]} is {value}; it goes with the device",
            not_needed="set" if (path, value) in there.settings else "",
        )


def _up(cable: Cable, facts: Facts, wanted: Overlay) -> Iterator[Step]:
    there, link = facts.overlay, facts.overlay.link
    step = partial(_made, Phase.UP)
    yield step(
        network.set_link(wanted, "up"),
        "from here on the overlay can send",
        network.set_link(wanted, "down"),
        done=link is not None and link.up,
    )
    if overlay.has_macs(wanted):
        yield step(
            # Not add: traffic that waits for the device has the kernel make an incomplete one.
            network.neighbour(cable, wanted, "replace"),
            "the peer's VTEP needs no ARP",
            network.neighbour(cable, wanted, "delete"),
            done=(str(cable.remote_vtep.ip), cable.remote.mac) in there.neighbours,
        )
    old = {route[:2]: route for route in there.routes if route[1] == str(cable.remote_vtep.ip)}
    for route in network.routes(cable, facts.source):
        before = old.get(route[:2])
        yield step(
            network.route(wanted, "replace" if before else "add", route),
            f"a subnet of {cable.remote.cluster}",
            network.route(wanted, *("replace", before) if before else ("delete", route)),
            done=before == route,
            kind=Change.ALTER if before else Change.ADD,
        )
    for route in sorted(set(old.values())):
        if route[:2] not in {each[:2] for each in network.routes(cable, facts.source)}:
            yield step(
                network.route(wanted, "delete", route),
                f"no subnet of {cable.remote.cluster} any more",
                network.route(wanted, "add", route),
                done=False,
                kind=Change.REMOVE,
            )
    yield step(
        network.rule(cable, "add"),
        f"look table {network.TABLE} up",
        network.rule(cable, "delete"),
        done=there.rule,
    )


def _made(
    phase: Phase,
    argv: Argv,
    why: str,
    undo: Argv | None,
    *,
    done: bool,
    kind: Change = Change.ADD,
) -> Step:
    return Step(
        phase=phase,
        argv=argv,
        why=why,
        undo=(undo,) if undo else (),
        not_needed="there" if done else "",
        kind=kind,
    )
