"""Killed at every step, connect and teardown: the next one finishes, or leaves no trace.

SIGKILL comes when a step is announced: the one before is done, this one is or isn't.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .cable import FILE, child_sas, connected, connections, ping, prepare, run, torn_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM
from .traffic import changes

pytestmark = pytest.mark.lab


def killed(gateway: Gateway, action: str, number: int) -> bool:
    """Kill a run when it announces a step; tell whether it came that far."""
    with gateway.popen(PROGRAM, action, FILE) as process:
        assert process.stderr
        for line in process.stderr:
            if line.startswith(f"[{number}/"):
                process.kill()
                return True
            assert not line.startswith("[undo]"), line
    return False


def done(gateway: Gateway, action: str) -> str:
    """Run to the end what must succeed; return what it said beside the result."""
    result = run(gateway, action, FILE)
    assert result.returncode == 0, result.stderr
    return result.stderr


def assert_up(gateway: Gateway) -> None:
    # The peer's overlay stayed up: what it sends has the peer initiate as well.
    assert set(child_sas(gateway)) == set(connections(gateway))
    assert ping(gateway).returncode == 0


def test_killed_at_every_step(lab: Lab, record_property: Callable[[str, object], None]) -> None:
    """The gateway that initiates is killed; its peer stays connected all the time."""
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
    before = c2.snapshot()
    connected(c1, c2)
    done(c2, "teardown")
    assert changes(before, c2.snapshot()) == ""
    survived = dict.fromkeys(
        ("connect, connect", "teardown, connect", "teardown, teardown", "connect, teardown"), 0
    )
    number = 1
    while killed(c2, "connect", number):
        told = done(c2, "connect")
        assert number == 1 or f"an earlier connect was cut off at step {number} of" in told
        assert_up(c2)
        survived["connect, connect"] += 1

        if killed(c2, "teardown", number):
            done(c2, "connect")
            assert_up(c2)
            survived["teardown, connect"] += 1
            assert killed(c2, "teardown", number)
            survived["teardown, teardown"] += 1
        done(c2, "teardown")
        assert changes(before, c2.snapshot()) == ""

        killed(c2, "connect", number)
        done(c2, "teardown")
        assert changes(before, c2.snapshot()) == ""
        survived["connect, teardown"] += 1
        number += 1
    torn_down(c1, c2)
    assert number > 18  # as many steps as the quick start's file has on this host
    for what, times in survived.items():
        record_property(f"killed {what}", f"{times} of {times}")
