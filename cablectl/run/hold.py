"""A hold on a part of the host: a locked file that exists while a service keeps that part.

Whoever removes the file makes the service let the part go.
"""

import os
from contextlib import suppress
from pathlib import Path

from cablectl.errors import HostNotReadyError
from cablectl.run import journal


class Hold:
    """The hold on `what`. HostNotReadyError if another `cablectl COMMAND` has it."""

    def __init__(self, path: Path, command: str, what: str) -> None:
        self._path, self._command, self._what = path, command, what
        with journal.file_errors(self._path):
            self._file = self._take()

    def _take(self) -> int:
        while True:
            journal.DIRECTORY.mkdir(mode=0o700, exist_ok=True)
            with suppress(FileNotFoundError):  # a run has just removed the directory
                flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
                file = os.open(self._path, flags, 0o600)
                if journal.locked(file, self._path):
                    return file
                pid = os.pread(file, 20, 0).decode(errors="replace")
                held = journal.same(file, self._path)
                os.close(file)
                if held:
                    holder = f" (PID {pid})" if pid.isdecimal() else ""
                    raise HostNotReadyError(
                        f"another cablectl {self._command}{holder} holds {self._what}",
                        hint=f"stop it first{f': kill {pid}' if holder else ''}",
                    )

    @property
    def lost(self) -> bool:
        """Whether somebody removed the file, so that it is to be let go."""
        return not journal.same(self._file, self._path)

    def remove_file(self) -> None:
        """Remove the file, unless somebody has removed it, and the directory if it is empty."""
        if not self.lost:
            self._path.unlink(missing_ok=True)
        with suppress(OSError):
            journal.DIRECTORY.rmdir()

    def close(self) -> None:
        """Release the lock: a teardown that waits for it goes on."""
        os.close(self._file)
