"""The process of pluto: only root's is believed, since any user can give a process its name."""

import os
from contextlib import suppress
from pathlib import Path

from cablectl.linux.sockets import PLUTO

PID = Path("/run/pluto/pluto.pid")
PROC = Path("/proc")
ROOT = 0  # the user


def pid() -> str:
    """Return the PID of root's pluto; "" if the PID file names none."""
    named = text(PID).strip()
    process = PROC / named
    try:
        believed = named.isdecimal() and process.stat().st_uid == ROOT
    except OSError:
        return ""
    return named if believed and text(process / "comm").strip() == PLUTO else ""


def arguments() -> list[str]:
    """Return the arguments of root's pluto; none if it doesn't run."""
    found = pid()
    return text(PROC / found / "cmdline").split("\0") if found else []


def text(path: Path) -> str:
    """Return what a file has; "" if it can't be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


class Watched:
    """The process of pluto, which can be polled: it is readable when that process has ended."""

    def __init__(self) -> None:
        self._pid, self._file = "", -1
        self.has_changed()

    @property
    def runs(self) -> bool:
        """Whether pluto ran when `has_changed` was called last."""
        return bool(self._pid)

    def fileno(self) -> int:
        """Return the descriptor; -1 without a process."""
        return self._file

    def has_changed(self) -> bool:
        """Tell whether pluto has ended, or was started, since the last call."""
        before, self._pid = self._pid, pid()
        if self._pid == before:
            return False
        self.close()
        with suppress(OSError):
            self._file = os.pidfd_open(int(self._pid)) if self._pid else -1
        return True

    def close(self) -> None:
        """Let the process go."""
        if self._file >= 0:
            os.close(self._file)
        self._file = -1
