"""Killed at every step, connect and teardown: the next one finishes, or leaves no trace.

SIGKILL comes when a step is announced: the one before is done, this one is or isn't.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from .cable import FILE, child_sas, connected, connections, evidence, ping, prepare, torn_down
from .gateways import Gateway, Lab
from .traffic import changes
from .warm import Warm

pytestmark = pytest.mark.lab


def killed(program: Warm, action: str, number: int) -> bool:
    """Kill a run when it announces a step; tell whether it came that far."""
    code, said = program.run(action, FILE, kill_at=number)
    assert "[undo]" not in said
    assert code in (0, -signal.SIGKILL), said
    return code != 0


def done(program: Warm, action: str) -> str:
    """Run to the end what must succeed; return what it said."""
    code, said = program.run(action, FILE)
    assert code == 0, said
    return said


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def assert_up(gateway: Gateway, peer: Gateway) -> None:
    # The peer's overlay stayed up: what it sends has the peer initiate as well.
    assert set(child_sas(gateway)) == set(connections(gateway))
    assert ping(gateway).returncode == 0, evidence(gateway) + evidence(peer)


def test_killed_at_every_step(
    lab: Lab, stack: ExitStack, record_property: Callable[[str, object], None]
) -> None:
    """The gateway that initiates is killed; its peer stays connected all the time."""
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
    before = c2.snapshot()
    connected(c1, c2)
    program = stack.enter_context(closing(Warm(c2)))
    done(program, "teardown")
    assert changes(before, c2.snapshot()) == ""
    survived = dict.fromkeys(
        ("connect, connect", "teardown, connect", "teardown, teardown", "connect, teardown"), 0
    )
    number = 1
    while killed(program, "connect", number):
        told = done(program, "connect")
        assert number == 1 or f"an earlier connect was cut off at step {number} of" in told
        assert_up(c2, c1)
        survived["connect, connect"] += 1

        if killed(program, "teardown", number):
            done(program, "connect")
            assert_up(c2, c1)
            survived["teardown, connect"] += 1
            assert killed(program, "teardown", number)
            survived["teardown, teardown"] += 1
        done(program, "teardown")
        assert changes(before, c2.snapshot()) == ""

        killed(program, "connect", number)
        done(program, "teardown")
        assert changes(before, c2.snapshot()) == ""
        survived["connect, teardown"] += 1
        number += 1
    torn_down(c1, c2)
    assert number > 18  # as many steps as the quick start's file has on this host
    for what, times in survived.items():
        record_property(f"killed {what}", f"{times} of {times}")
