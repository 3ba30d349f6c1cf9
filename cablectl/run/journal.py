"""The lock and the journal of a cable: one cablectl at a time, and an entry before each step.

A plan is made from the state of the host, so a run after a killed one doesn't need the journal to
continue. The journal tells that there was such a run, and how far it came. It holds no key, since
no step has a key in its arguments.
"""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from msgspec import DecodeError, Struct, json

from cablectl.errors import HostNotReadyError, TimeLimitError
from cablectl.linux import guard_file
from cablectl.model.argv import Argv

DIRECTORY = Path(guard_file.DIRECTORY)
_SUFFIXES = (".lock", ".journal")  # of a run; a watcher of a guard has another one
POLL = 0.2  # seconds between two attempts to take the lock


class Entry(Struct, frozen=True):
    """A command that was about to run: its action, number and phase, and how it is undone."""

    action: str
    number: int
    total: int
    phase: str
    argv: Argv
    undo: tuple[Argv, ...] = ()

    @property
    def cut_off(self) -> str:
        """How far the run came that didn't end."""
        return f"{self.action} was cut off at step {self.number} of {self.total} ({self.phase})"


class Journal:
    """The journal of a cable, for the run that holds the cable's lock."""

    def __init__(self, path: Path, lock: int) -> None:
        self.lock = lock
        self._path = path
        self.unfinished = _last(path)

    def write(self, entry: Entry) -> None:
        """Write down a command that is about to run; HostNotReadyError if that fails."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with file_errors(self._path):
            file = os.open(self._path, flags, 0o600)
            try:
                os.write(file, json.encode(entry) + b"\n")
                os.fsync(file)
            finally:
                os.close(file)

    def end(self) -> None:
        """Remove the journal: the run finished, or was rolled back."""
        self._path.unlink(missing_ok=True)


class RunTrace(NamedTuple):
    """A run that works on a cable or was killed: PID, whether it holds the lock, last entry."""

    cable: str
    pid: int | None
    held: bool
    entry: Entry | None


def runs() -> Iterator[RunTrace]:
    """Yield the runs that left files behind, and those that still work; this never waits.

    To see whether a lock is held, it is shared for an instant; a run that fails to take the lock
    because of that tries again.
    """
    with suppress(OSError):
        files = (file for file in DIRECTORY.iterdir() if file.suffix in _SUFFIXES)
        names = sorted({file.stem for file in files})
        for name in names:
            lock = DIRECTORY / f"{name}.lock"
            entry = _last(DIRECTORY / f"{name}.journal")
            yield RunTrace(name, *_holder(lock), entry)


def _holder(path: Path) -> tuple[int | None, bool]:
    try:
        file = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None, False
    try:
        pid = os.pread(file, 20, 0).decode(errors="replace")
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return int(pid) if pid.isdecimal() else None, True
    finally:
        os.close(file)
    return int(pid) if pid.isdecimal() else None, False


@contextmanager
def held(cable: str, limit: float, waiting: Callable[[str], None]) -> Iterator[Journal]:
    """Hold the cable's lock, and yield the journal; wait at most `limit` seconds for the lock.

    `waiting` is called once with a text that names the holder. TimeLimitError if the holder doesn't
    end; HostNotReadyError if the lock's file can't be made.
    """
    path = DIRECTORY / f"{cable}.lock"
    with file_errors(path):
        lock = _lock(path, limit, waiting)
    try:
        yield Journal(DIRECTORY / f"{cable}.journal", lock)
    finally:
        path.unlink(missing_ok=True)  # before it is released, else it may be another run's
        os.close(lock)
        with suppress(OSError):  # it has the files of another cable
            DIRECTORY.rmdir()


def _lock(path: Path, limit: float, waiting: Callable[[str], None]) -> int:
    deadline, has_told = time.monotonic() + limit, False
    while True:
        DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # another run has just removed the directory
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            os.set_inheritable(file, True)  # for commands that keep the lock
            if locked(file, path):
                return file
            pid = os.pread(file, 20, 0).decode()
            os.close(file)
            holder = f"another cablectl (PID {pid})" if pid else "another cablectl"
            if time.monotonic() > deadline:
                raise TimeLimitError(
                    f"{holder} is at work on this cable", hint="wait until it ends, or stop it"
                )
            if not has_told:
                waiting(f"waiting for {holder}, which is at work on this cable")
                has_told = True
            time.sleep(POLL)


def locked(file: int, path: Path) -> bool:
    """Take the lock; False if another run has it, or has just removed its file."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if not same(file, path):
        return False
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return True


def same(file: int, path: Path) -> bool:
    """Tell whether the open file is still the one at that path."""
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _last(path: Path) -> Entry | None:
    """Return the last complete entry of a run that didn't end."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with suppress(DecodeError):
            return json.decode(line, type=Entry)
    return None


@contextmanager
def file_errors(path: Path) -> Iterator[None]:
    """Turn an OSError into a HostNotReadyError that names the file."""
    try:
        yield
    except OSError as error:
        raise HostNotReadyError(
            f"{path}: {error.strerror}; without this file cablectl begins no step",
            hint=f"free some space in {path.parent.parent}, or check its permissions",
        ) from None
