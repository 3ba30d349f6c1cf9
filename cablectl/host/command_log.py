"""Shows on stderr each command that runs, with its duration: `cablectl -v`.

No key is shown: a plan and a probe never have one in their arguments.
"""

import shlex
import sys
import time
from collections.abc import Sequence

_shown = False


def show(*, shown: bool) -> None:
    """Decide for this process whether commands are shown."""
    global _shown
    _shown = shown


class CommandTimer:
    """Measures one command from now on; `given` is the text that the command reads."""

    def __init__(self, argv: Sequence[str], given: str = "") -> None:
        self._argv, self._given, self._began = argv, given, time.monotonic()

    def exited(self, code: int) -> None:
        """Show that the command ended; a negative code is the signal that killed it."""
        self.ended(f"signal {-code}" if code < 0 else f"exit {code}")

    def ended(self, how: str) -> None:
        """Show how the command ended, in milliseconds."""
        if not _shown:
            return
        milliseconds = round(1000 * (time.monotonic() - self._began))
        lines = [f"run {milliseconds} ms {how}: {_printable(shlex.join(self._argv))}"]
        lines += [f"  < {_printable(line)}" for line in self._given.splitlines()]
        # One write, since several threads run commands.
        sys.stderr.write("".join(f"cablectl: {line}\n" for line in lines))
        sys.stderr.flush()


def _printable(text: str) -> str:
    """Return a command in one line that moves no cursor."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
