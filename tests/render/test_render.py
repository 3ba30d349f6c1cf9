"""Progress and errors, on a terminal and in a pipe."""

import io
import os
import pty

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Facts, connected
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Outcome, Phase, Plan
from cablectl.render import plans, text
from cablectl.render.progress import LineProgress, LiveProgress, progress_on
from tests.support.terminal import shown_on

BLANK = Facts(libreswan=Version(4, 10))


def summary(plan: Plan) -> str:
    return plans.as_summary(Outcome(plan))


def tell(progress: LineProgress, cable: Cable) -> None:
    """Have everything happen once."""
    plan = connect_plan.plan((cable,), (replace(BLANK, warnings=("look out",)),))
    progress.begin(plan)
    step = next(step for step in plan.needed if step.phase is Phase.ADD)
    progress.step(5, 20, step)
    progress.waiting([cable.connections[0].name], 1, 3.2)
    progress.undo(step.undo[0])
    progress.undo_failed(step.undo[0], CablectlError("add: it broke"))
    progress.close()


def test_a_pipe_gets_whole_commands_line_by_line(cable: Cable) -> None:
    stream = io.StringIO()
    progress = progress_on(stream)
    tell(progress, cable)
    warning, first, undo, failed = stream.getvalue().splitlines()
    assert warning == "cablectl: warning: look out"
    assert first.startswith("[5/20] add: ipsec whack --psk --encrypt --forceencaps --name ")
    assert undo == f"[undo] ipsec whack --delete --name {cable.connections[0].name}"
    assert failed.startswith("[undo] failed, add: it broke: ipsec whack")


def test_a_terminal_gets_one_moving_line_and_keeps_what_was_undone(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = pty.openpty()
    with os.fdopen(writer, "w") as stream:
        progress = progress_on(stream)
        assert isinstance(progress, LiveProgress)
        tell(progress, cable)
    shown = shown_on(reader)
    assert f"[undo] ipsec whack --delete --name {cable.connections[0].name}" in shown
    assert shown.rstrip().endswith("\x1b[2K")  # the moving line is gone
    assert "\x1b[?25h" in shown  # and the cursor is back


def test_an_error_has_its_details_and_a_way_out() -> None:
    error = CablectlError("it broke", hint="mend it", details=["$ command", "output"])
    shown = text.as_error(error, io.StringIO())
    assert shown == "cablectl: it broke\n  $ command\n  output\n  try: mend it"


def test_summaries_say_what_is_true(cable: Cable) -> None:
    made = connected(cable, BLANK, 1408)
    up = summary(connect_plan.plan((cable,), (BLANK,)))
    assert up.startswith("the cable to cluster2 is up, encrypted by ESP in transport mode")
    assert summary(connect_plan.plan((cable,), (made,))) == f"nothing to do: {up}"
    unawaited = summary(connect_plan.plan((cable,), (BLANK,), wait=False))
    assert "is made; connect didn't wait for SAs" in unawaited
    gone = "no trace of the cable to cluster2 is left"
    assert summary(teardown_plan.plan((cable,), (made,))) == gone
    assert summary(teardown_plan.plan((cable,), (BLANK,))) == f"nothing to do: {gone}"
