"""Peers of the cables' device that the file doesn't have any more → the steps that remove them.

Such a peer is known by its forwarding entry: its MAC follows from its address. So that goes last,
and who is cut off in between finds the rest by it. Connections and keys go only with cablectl's own
secrets file: their names alone are Submariner's as well.
"""

from collections.abc import Iterator
from functools import partial

from cablectl.facts.host_facts import StalePeer
from cablectl.libreswan import secrets_file, whack
from cablectl.linux import iproute
from cablectl.model.wishes import OverlayWish
from cablectl.plan.ipsec import Pairs
from cablectl.plan.steps import Change, Phase, Step, in_order

_WHY = "the file has no such peer any more"


def steps(pairs: Pairs, wanted: OverlayWish, *, device_goes: bool = False) -> tuple[Step, ...]:
    """Return the steps, in order; with the device goes what stands on it."""
    if not wanted.serves_all_peers:
        return ()
    strays = pairs[0][1].overlay.strays
    return in_order(
        step for each in strays for step in _of_one(each, wanted, device_goes=device_goes)
    )


def former_secrets(pairs: Pairs) -> Iterator[Step]:
    """Yield the steps that forget the keys of cables whose peers have another name now."""
    for cable, facts in pairs:
        for former in sorted(set(facts.former.values())):
            for argv in secrets_file.remove_of(former):
                yield Step(
                    phase=Phase.FORGET,
                    argv=argv,
                    why=f"{cable.remote.cluster} had another name: {former}",
                    kind=Change.REMOVE,
                    cable=cable.id,
                )


def _of_one(stray: StalePeer, wanted: OverlayWish, *, device_goes: bool) -> Iterator[Step]:
    step = partial(Step, why=f"{_WHY}: {stray.gateway}", kind=Change.REMOVE, cable=stray.id)
    for route in sorted(stray.routes):
        yield step(phase=Phase.UNLINK, argv=iproute.route(wanted, "delete", route))
    for vtep, mac in () if device_goes else sorted(stray.neighbours):
        yield step(phase=Phase.UNLINK, argv=iproute.neighbour(wanted, "delete", vtep, mac))
    for name in stray.connections if stray.secret else ():
        yield step(phase=Phase.DELETE, argv=whack.delete(name))
    for argv in secrets_file.remove_of(stray.id) if stray.secret else ():
        yield step(phase=Phase.FORGET, argv=argv)
    for entry in () if device_goes else sorted(stray.fdb):
        yield step(phase=Phase.FORGET, argv=iproute.forwarding_entry(wanted, "delete", *entry))
