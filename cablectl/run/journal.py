"""What is being done to a cable: one program at a time, and a note of each step before it begins.

A plan is made from what is there, so whoever comes after a killed run needs no note to go on; the
journal says that there was such a run, and how far it came. It holds no secret: a step's argv has
none.
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
from cablectl.model.argv import Argv

DIRECTORY = Path("/run/cablectl")
POLL = 0.2  # seconds between two looks at a lock that somebody else holds


class Entry(Struct, frozen=True):
    """A command that was about to run: what for, which one of how many, and how it is undone."""

    action: str
    number: int
    total: int
    phase: str
    argv: Argv
    undo: tuple[Argv, ...] = ()

    @property
    def cut_off(self) -> str:
        """How far a run came that didn't end."""
        return f"{self.action} was cut off at step {self.number} of {self.total} ({self.phase})"


class Journal:
    """The journal of a cable, for whoever holds its lock."""

    def __init__(self, path: Path, lock: int) -> None:
        self.lock = lock
        self._path = path
        self.left = _last(path)

    def write(self, entry: Entry) -> None:
        """Note what is about to run; HostNotReadyError if that can't be kept."""
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with _told(self._path):
            file = os.open(self._path, flags, 0o600)
            try:
                os.write(file, json.encode(entry) + b"\n")
                os.fsync(file)
            finally:
                os.close(file)

    def end(self) -> None:
        """Forget it all: what was begun is finished, or undone."""
        self._path.unlink(missing_ok=True)


class Left(NamedTuple):
    """What is in the directory of a cable: whose lock, whether it is held, and the last entry."""

    cable: str
    pid: int | None
    held: bool
    entry: Entry | None


def found() -> Iterator[Left]:
    """Yield what there is of every cable; nothing waits for this.

    A lock is known as held by asking to share it, for an instant: whoever wants it then asks again.
    """
    with suppress(OSError):
        names = sorted({file.stem for file in DIRECTORY.iterdir()})
        for name in names:
            lock = DIRECTORY / f"{name}.lock"
            entry = _last(DIRECTORY / f"{name}.journal")
            yield Left(name, *_holder(lock), entry)


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
    """Hold the cable's lock, for which `limit` seconds are waited, and yield its journal.

    `waiting` is told who has it. TimeLimitError if that one doesn't end; HostNotReadyError if
    there can be no lock.
    """
    path = DIRECTORY / f"{cable}.lock"
    with _told(path):
        lock = _lock(path, limit, waiting)
    try:
        yield Journal(DIRECTORY / f"{cable}.journal", lock)
    finally:
        path.unlink(missing_ok=True)  # while it is held, so that it is nobody else's
        os.close(lock)
        with suppress(OSError):  # another cable is being worked on
            DIRECTORY.rmdir()


def _lock(path: Path, limit: float, waiting: Callable[[str], None]) -> int:
    deadline, told = time.monotonic() + limit, False
    while True:
        DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # the directory went with the lock of somebody else
            file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
            os.set_inheritable(file, True)  # for the commands that are to keep it, and no others
            if _locked(file, path):
                return file
            pid = os.pread(file, 20, 0).decode()
            os.close(file)
            holder = f"another cablectl (PID {pid})" if pid else "another cablectl"
            if time.monotonic() > deadline:
                raise TimeLimitError(
                    f"{holder} is at work on this cable", hint="wait for its end, or stop it"
                )
            if not told:
                waiting(f"waiting for {holder}, which is at work on this cable")
                told = True
            time.sleep(POLL)


def _locked(file: int, path: Path) -> bool:
    """Take the lock; one whose file was taken away meanwhile is none."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    if not _same(file, path):
        return False
    os.ftruncate(file, 0)
    os.pwrite(file, str(os.getpid()).encode(), 0)
    return True


def _same(file: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file), path.stat())
    except FileNotFoundError:
        return False


def _last(path: Path) -> Entry | None:
    """Return the last whole entry of a run that didn't end."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        with suppress(DecodeError):
            return json.decode(line, type=Entry)
    return None


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise HostNotReadyError(
            f"{path}: {error.strerror}, and without it no step is begun",
            hint=f"make room in {path.parent.parent}, or see its permissions",
        ) from None
