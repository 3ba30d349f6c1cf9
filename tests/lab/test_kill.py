"""connect and teardown, killed at every step: the next run completes or undoes the work.

SIGKILL comes when a step is announced: the step before is done, this step may be done or not.
"""

from __future__ import annotations

import re
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from .cable import FILE, bring_up, child_sas, connections, evidence, ping, prepare, tear_down
from .extent import ALL
from .gateways import Gateway, Lab
from .traffic import changes
from .warm import Warm

pytestmark = pytest.mark.lab

STEP = 1 if ALL else 3  # from one step that is killed to the next one


def kill_at_step(program: Warm, action: str, number: int) -> bool:
    """Kill a run when it announces a step; tell whether the run had that many steps."""
    code, output = program.run(action, FILE, kill_at=number)
    assert "[undo]" not in output
    assert code in (0, -signal.SIGKILL), output
    return code != 0


def run_to_the_end(program: Warm, action: str) -> str:
    """Run an action that must succeed; return its output."""
    code, output = program.run(action, FILE)
    assert code == 0, output
    return output


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def assert_up(gateway: Gateway, peer: Gateway) -> None:
    # A set, since the peer's overlay is still up: its packets let the peer initiate as well, and a
    # connection then has two Child SAs.
    assert set(child_sas(gateway)) == set(connections(gateway))
    assert ping(gateway).returncode == 0, evidence(gateway) + evidence(peer)


def test_killed_at_every_step(
    lab: Lab, stack: ExitStack, record_property: Callable[[str, object], None]
) -> None:
    """The runs on the initiating gateway are killed; the peer stays connected all the time."""
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
    before = c2.snapshot()
    bring_up(c1, c2)
    program = stack.enter_context(closing(Warm(c2)))
    run_to_the_end(program, "teardown")
    assert changes(before, c2.snapshot()) == ""
    survived = dict.fromkeys(
        ("connect, connect", "teardown, connect", "teardown, teardown", "connect, teardown"), 0
    )
    number = 1
    while kill_at_step(program, "connect", number):
        output = run_to_the_end(program, "connect")
        # Both waits begin at once, so the journal may already have the second one.
        cut_off = re.search(r"an earlier connect was cut off at step (\d+) of", output)
        assert number == 1 or (cut_off and int(cut_off[1]) in (number, number + 1)), output
        assert_up(c2, c1)
        survived["connect, connect"] += 1

        if kill_at_step(program, "teardown", number):
            run_to_the_end(program, "connect")
            assert_up(c2, c1)
            survived["teardown, connect"] += 1
            assert kill_at_step(program, "teardown", number)
            survived["teardown, teardown"] += 1
        run_to_the_end(program, "teardown")
        assert changes(before, c2.snapshot()) == ""

        kill_at_step(program, "connect", number)
        run_to_the_end(program, "teardown")
        assert changes(before, c2.snapshot()) == ""
        survived["connect, teardown"] += 1
        number += STEP
    tear_down(c1, c2)
    assert number > 18  # the number of steps for the quick start's file on this host
    for actions, times in survived.items():
        record_property(f"killed {actions}", f"{times} of {times}")
