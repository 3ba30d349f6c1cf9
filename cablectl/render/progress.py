"""Progress → plain lines, or one that moves on a terminal."""

import shlex
from collections.abc import Sequence
from typing import TextIO

from cablectl.errors import CablectlError
from cablectl.model.argv import Argv
from cablectl.plan.steps import Plan, Step
from cablectl.render.plans import as_warnings
from cablectl.render.text import console


class LineProgress:
    """A plain line for each thing that happens: for logs, pipes and scripts."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = 0  # connections that still wait, when it was last shown

    def note(self, text: str) -> None:
        """Show what concerns other runs."""
        self._say(f"cablectl: note: {text}")

    def begin(self, plan: Plan) -> None:
        """Show the warnings."""
        for line in as_warnings(plan):
            self._say(line)

    def step(self, number: int, total: int, step: Step) -> None:
        """Show the command before it runs; of a shell program, what it is for."""
        what = step.waits_for or (step.why if step.argv[0] == "sh" else shlex.join(step.argv))
        self._say(f"[{number}/{total}] {step.phase.label}: {what}")

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Show of several how many are up, when more are; of one the step said it."""
        if total > 1 and len(left) != self._left:
            self._left = len(left)
            self._say(f"[wait] {_waiting(left, total, seconds)}")

    def failed(self, cable: str, error: CablectlError) -> None:
        """Show what is undone, and why."""
        self._say(f"cablectl: {cable} failed and is undone: {error.message}")

    def undo(self, argv: Argv) -> None:
        """Show the command before it runs."""
        self._say(f"[undo] {shlex.join(argv)}")

    def undo_failed(self, argv: Argv, error: CablectlError) -> None:
        """Say what a person has to look at."""
        self._say(f"[undo] not undone, {error.message}: {shlex.join(argv)}")

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class LiveProgress(LineProgress):
    """One moving line on a terminal; what is undone stays on the screen."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._console = console(stream)
        self._status = self._console.status("reading this host")
        self._status.start()

    def step(self, number: int, total: int, step: Step) -> None:
        """Show why, which is shorter than what."""
        self._show(f"{number}/{total} {step.phase.label}: {step.why}")

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Show how long it takes."""
        one = f"wait {seconds:.0f} s for {left[0]}"
        self._show(_waiting(left, total, seconds) if total > 1 else one)

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._status.stop()

    def _show(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(text))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _waiting(left: Sequence[str], total: int, seconds: float) -> str:
    """Tell of the whole, and who is slowest."""
    up = f"{seconds:.0f} s: {total - len(left)} of {total} connections are up, not yet {left[0]}"
    return up + (f" and {len(left) - 1} more" if left[1:] else "")


def progress_on(stream: TextIO) -> LineProgress:
    """Return the progress that suits the stream."""
    return LiveProgress(stream) if stream.isatty() else LineProgress(stream)
