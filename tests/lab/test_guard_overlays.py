"""Without IPsec, the guard drops the clear packets of every overlay, in each direction."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product

import pytest

from cablectl.linux import guard
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS
from cablectl.plan import connect_plan
from cablectl.plan.steps import Phase
from tests.support.documents import FAMILIES, shaped
from tests.support.plans import BLANK

from .counters import dropped, echo_requests
from .gateways import Gateway, Lab
from .traffic import PATTERN, inner_addresses, ping
from .wire import Capture

pytestmark = pytest.mark.lab

SHAPES = [f"transport {kind} {family}" for kind, family in product(OVERLAYS, FAMILIES)]
COUNT = 3  # packets of one ping
SIZE = 200  # bytes of the inner IP packet: small enough for every overlay


@pytest.mark.parametrize("shape", SHAPES)
def test_the_guard_drops_clear_packets(lab_without_pluto: Lab, shape: str) -> None:
    lab = lab_without_pluto
    guarded, unguarded = lab.gateways
    local, remote = shaped(shape, "cluster1"), shaped(shape, "cluster2")
    version = local.local.address.version
    with loaded_guard(guarded, local), device(guarded, local), device(unguarded, remote):
        ordinary = guarded.run("ping", "-c", "1", str(local.remote_host), check=False)
        assert ordinary.returncode == 0, "the guard drops other packets than the overlay's"

        with lab.capture() as wire:
            before = dropped(guarded, local)[1], echo_requests(unguarded, version)
            assert not passes(guarded, local)
            assert dropped(guarded, local)[1] >= before[0] + COUNT
            assert echo_requests(unguarded, version) == before[1]
        assert pings(wire) == 0, "the guard let clear packets out"

        with lab.capture() as wire:
            before = dropped(guarded, local)[0], echo_requests(guarded, version)
            assert not passes(unguarded, remote)
            assert dropped(guarded, local)[0] >= before[0] + COUNT
            assert echo_requests(guarded, version) == before[1]
        assert pings(wire) == COUNT, "the clear packets didn't reach the guarded gateway"

        # Without the guard the same packets pass, so the counts above prove something.
        guarded.run(*guard.remove(local))
        with lab.capture() as wire:
            assert passes(guarded, local)
            assert passes(unguarded, remote)
        assert pings(wire) == 4 * COUNT  # requests and replies, from each side


@contextmanager
def loaded_guard(gateway: Gateway, cable: Cable) -> Iterator[None]:
    """Load the guard; at the end no guard is left, also where the test removed it."""
    gateway.run(*guard.load(cable))
    try:
        yield
    finally:
        gateway.run(*guard.remove(cable), check=False)


@contextmanager
def device(gateway: Gateway, cable: Cable) -> Iterator[None]:
    """Make the overlay's device, and bring it up, by the plan's own steps; then undo them."""
    plan = connect_plan.plan((cable,), (BLANK,))
    steps = [step for step in plan.steps if step.phase in (Phase.OVERLAY, Phase.UP)]
    for step in steps:
        gateway.run(*step.argv)
    try:
        yield
    finally:
        for step in reversed(steps):
            for argv in step.undo:
                gateway.run(*argv)


def passes(gateway: Gateway, cable: Cable) -> bool:
    """Ping the other VTEP COUNT times, and tell whether an answer came."""
    source, vtep = inner_addresses(cable)
    return ping(gateway, source, vtep, SIZE).returncode == 0


def pings(wire: Capture) -> int:
    """Return how many frames of the capture carry a ping in clear text."""
    return sum(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames)
