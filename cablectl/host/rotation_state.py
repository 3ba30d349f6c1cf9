"""How far the rotation of each cable's key is on this host, by what the host has of the detours.

Nothing else remembers it: a detour's secrets file shows that the detour exists, its rules that it
carries the traffic, and the cable's own secrets file which key the cable has.
"""

import os
from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace

from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Credential
from cablectl.host import credentials, daemon, routing
from cablectl.linux import iproute
from cablectl.model import rotation
from cablectl.model.cable import DETOUR, Cable
from cablectl.model.rotation import RotationPhase

MARK = DETOUR.replace(".", "-")  # part of a detour's id


class Standing(NamedTuple):
    """A cable as it is now, its detour, and the phase of its rotation."""

    cable: Cable
    detour: Cable
    phase: RotationPhase

    @property
    def has_detour(self) -> bool:
        """Whether the detour exists, at least a part of it."""
        return self.phase not in (RotationPhase.NONE, RotationPhase.DONE)


def as_they_are(cables: tuple[Cable, ...]) -> tuple[Cable, ...]:
    """Return the cables of a file with the key and the guard that a rotation has given them."""
    return tuple(standing.cable for standing in standings(cables)) or cables


def detours(cables: Sequence[Cable], wanted: Sequence[Cable]) -> tuple[Cable, ...]:
    """Return the detours that exist, as they are; of all cables of a file those of `wanted`."""
    ids = {cable.id for cable in wanted}
    found = (each for each in standings(cables) if each.has_detour and each.cable.id in ids)
    return tuple(each.detour for each in found)


def standings(cables: Sequence[Cable]) -> tuple[Standing, ...]:
    """Return the standing of each cable; () if none of them has a detour, or could have one.

    The cables are of one file and one local end. Every command asks, so names of files come first.
    """
    marked = daemon.marked_cables()
    if not (any(MARK in name for name in marked) or any(map(has_next, cables))):
        return ()
    try:
        rotation.refuse(cables[0])
        detoured = rotation.detours_of(cables)
    except CablectlError:
        return ()
    return _standings(tuple(map(rotation.plain, cables)), detoured, marked)


def has_next(cable: Cable) -> bool:
    """Tell whether the next key of a cable, or a part of its next certificate, is on this host."""
    return any(map(os.path.lexists, rotation.replaced(cable)))


def _standings(
    cables: tuple[Cable, ...], detoured: tuple[Cable, ...], marked: frozenset[str]
) -> tuple[Standing, ...]:
    used = _used(detoured) if any(detour.id in marked for detour in detoured) else set()
    beside = {cable.bundle for cable, it in zip(cables, detoured, strict=True) if it.id in marked}
    found, credential_of = [], credentials.finder(cables[0].ipsec.auth)
    for cable, detour in zip(cables, detoured, strict=True):
        renewed = rotation.renewed(cable)
        is_changed = credential_of(renewed).held is Credential.SAME
        phase = rotation.phase(
            detour=detour.id in marked, used=detour.id in used, changed=is_changed
        )
        now = replace(cable, next_key=is_changed)
        if cable.bundle in beside:
            now = rotation.with_detour(now)
        found.append(Standing(now, rotation.use(detour, used=detour.id in used), phase))
    return tuple(found)


def _used(detoured: Sequence[Cable]) -> set[str]:
    """Return the ids of the detours whose last rule is installed."""
    first = detoured[0]
    if first.overlay is None:
        return set()
    rules = routing.overlay_facts(first, first.overlay.device).rules
    return {detour.id for detour in detoured if iproute.moving_rules(detour)[-1] in rules}
