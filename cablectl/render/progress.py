"""Progress as plain lines, or as one moving line on a terminal."""

import shlex
from collections.abc import Sequence
from typing import TextIO

from cablectl.errors import CablectlError
from cablectl.model.argv import Argv
from cablectl.plan.steps import Plan, Step
from cablectl.render.plans import as_warnings
from cablectl.render.text import console, printable


class LineProgress:
    """A plain line for each event, for logs, pipes and scripts."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left = 0  # connections that had no Child SA in the last line
        self._silent = 0  # likewise the peers that had answered no echo

    def note(self, text: str) -> None:
        """Show a note about another run."""
        self._print(f"cablectl: note: {text}")

    def begin(self, plan: Plan) -> None:
        """Show the warnings."""
        for line in as_warnings(plan):
            self._print(line)

    def step(self, number: int, total: int, step: Step) -> None:
        """Show the command before it runs, or the purpose of a shell program."""
        text = step.waits_for or (step.why if step.argv[0] == "sh" else shlex.join(step.argv))
        self._print(f"[{number}/{total}] {step.phase.label}: {text}")

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Show how many of several connections are up, whenever that number changes."""
        if total > 1 and len(left) != self._left:
            self._left = len(left)
            self._print(f"[wait] {_waiting(left, total, seconds)}")

    def echoing(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Show how many of several peers answer echoes, whenever that number changes."""
        if len(left) != self._silent:
            self._silent = len(left)
            self._print(f"[echo] {_silent(left, total, seconds)}")

    def failed(self, cable: str, error: CablectlError) -> None:
        """Show which cable is rolled back, and why."""
        self._print(f"cablectl: {cable} failed and is rolled back: {error.message}")

    def undo(self, argv: Argv) -> None:
        """Show the command before it runs."""
        self._print(f"[undo] {shlex.join(argv)}")

    def undo_failed(self, argv: Argv, error: CablectlError) -> None:
        """Show an undo command that failed: a person has to look at it."""
        self._print(f"[undo] failed, {error.message}: {shlex.join(argv)}")

    def close(self) -> None:
        """Do nothing: nothing was opened."""

    def _print(self, line: str) -> None:
        print(printable(line), file=self._stream, flush=True)


class LiveProgress(LineProgress):
    """One moving line on a terminal; lines about undo stay on the screen."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._console = console(stream)
        self._status = self._console.status("reading this host")
        self._status.start()

    def step(self, number: int, total: int, step: Step) -> None:
        """Show the reason, which is shorter than the command."""
        self._show(f"{number}/{total} {step.phase.label}: {step.why}")

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Show how many seconds have passed."""
        one = f"waiting for {left[0]}, {seconds:.0f} s"
        self._show(_waiting(left, total, seconds) if total > 1 else one)

    def echoing(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Show how many seconds have passed."""
        self._show(_silent(left, total, seconds))

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._status.stop()

    def _show(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(text))

    def _print(self, line: str) -> None:
        self._console.print(printable(line), markup=False, highlight=False, soft_wrap=True)


def _waiting(left: Sequence[str], total: int, seconds: float) -> str:
    """Return how many connections are up, and the first connection that isn't."""
    up = f"{seconds:.0f} s: {total - len(left)} of {total} connections are up"
    return f"{up}; {_first(left)}"


def _silent(left: Sequence[str], total: int, seconds: float) -> str:
    """Return how many peers answer, and the first cable whose peer doesn't."""
    answer = f"{seconds:.0f} s: {total - len(left)} of {total} peers answer an echo"
    return f"{answer}; {_first(left)}"


def _first(left: Sequence[str]) -> str:
    return f"waiting for {left[0]}" + (f" and {len(left) - 1} more" if left[1:] else "")


def progress_on(stream: TextIO) -> LineProgress:
    """Return the progress that suits the stream."""
    return LiveProgress(stream) if stream.isatty() else LineProgress(stream)
