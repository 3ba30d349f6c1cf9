"""The hold of a watcher on a guard: a locked file that exists while the watcher keeps the table."""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cablectl.errors import HostNotReadyError, TimeLimitError
from cablectl.linux import guard_file
from cablectl.run import journal

LET_GO_LIMIT = 10  # seconds for the watcher to let go: it may wait 5 s for nft
POLL = 0.02  # seconds between two looks whether the watcher has let go


class Hold:
    """The hold on one guard. HostNotReadyError if another watcher holds it."""

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        self._path = _path(bundle)
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
                        f"another cablectl guard{holder} holds the guard of {self.bundle}",
                        hint=f"stop it first{f': kill {pid}' if holder else ''}",
                    )

    @property
    def lost(self) -> bool:
        """Whether somebody removed the file, so that the guard is to be let go."""
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


class Watched:
    """The guards that watchers held before a teardown."""

    def __init__(self, files: dict[Path, int]) -> None:
        self._files = files

    def await_end(self) -> None:
        """Wait until the watchers have let go of the guards whose files were removed.

        TimeLimitError if a watcher doesn't let go in LET_GO_LIMIT seconds.
        """
        deadline = time.monotonic() + LET_GO_LIMIT
        for path, file in self._files.items():
            while not (journal.same(file, path) or _is_free(file)):
                if time.monotonic() > deadline:
                    pid = os.pread(file, 20, 0).decode(errors="replace")
                    raise TimeLimitError(
                        f"cablectl guard (PID {pid}) still keeps the guard of {path.stem}",
                        hint=f"kill {pid}, then run teardown again",
                    )
                time.sleep(POLL)


@contextmanager
def watched(bundles: Iterable[str]) -> Iterator[Watched]:
    """Yield the guards of these bundles that watchers hold now."""
    with ExitStack() as stack:
        files = {}
        for path in {_path(bundle): None for bundle in bundles}:
            with suppress(OSError):
                files[path] = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
                stack.callback(os.close, files[path])
        yield Watched(files)


def _path(bundle: str) -> Path:
    return journal.DIRECTORY / f"{bundle}{guard_file.SUFFIX}"


def _is_free(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
