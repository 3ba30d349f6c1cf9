"""The locks and journals of cables: one cablectl at a time, and an entry before each step.

A run holds the locks of all of its cables, so that two runs of which one has more cables exclude
each other. It takes them in one order, so that no two runs wait for each other.

A plan is made from the state of the host, so a run after a killed one doesn't need the journal to
continue. The journal tells that there was such a run, and how far it came. It holds no key, since
no step has a key in its arguments.
"""

import fcntl
import os
import resource
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from msgspec import DecodeError, Struct, json

from cablectl.errors import BusyError, HostNotReadyError
from cablectl.linux import guard_file
from cablectl.model.argv import Argv

DIRECTORY = Path(guard_file.DIRECTORY)
_SUFFIXES = (".lock", ".journal")  # of a run; a watcher of a guard has another one
FIRST_LOCK = 256  # the lowest number of a lock's open file; other files have lower numbers
OTHER_FILES = 64  # how many other files may have higher numbers, such as those of a library
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
    """The journals of cables, for the run that holds their locks."""

    def __init__(self, locks: dict[str, int]) -> None:
        self.locks = frozenset(locks.values())
        self._paths = {name: DIRECTORY / f"{name}.journal" for name in locks}
        self.unfinished = next(filter(None, map(_last, self._paths.values())), None)

    def write(self, entry: Entry, cable: str = "") -> None:
        """Write down a command that is about to run; HostNotReadyError if that fails.

        A command that all cables share is in the journal of the first one.
        """
        path = self._paths.get(cable) or next(iter(self._paths.values()))
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        with file_errors(path):
            file = os.open(path, flags, 0o600)
            try:
                os.write(file, json.encode(entry) + b"\n")
                os.fsync(file)
            finally:
                os.close(file)

    def end(self) -> None:
        """Remove the journals: the run finished, or was rolled back."""
        for path in self._paths.values():
            path.unlink(missing_ok=True)


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
def held(cables: Iterable[str], limit: float, waiting: Callable[[str], None]) -> Iterator[Journal]:
    """Hold the cables' locks, and yield the journal; wait at most `limit` seconds for all locks.

    `waiting` is called with a text that names a holder. BusyError if the holder doesn't end;
    HostNotReadyError if a lock's file can't be made.
    """
    names, deadline = sorted(set(cables)), time.monotonic() + limit
    _allow_files(len(names))
    with ExitStack() as stack:
        locks = {name: stack.enter_context(_held(name, deadline, waiting)) for name in names}
        yield Journal(locks)


def _allow_files(more: int) -> None:
    """Raise the soft limit of open files, if so many more may be open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FIRST_LOCK + more + OTHER_FILES
    if soft != resource.RLIM_INFINITY and soft < wanted:
        most = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextmanager
def _held(cable: str, deadline: float, waiting: Callable[[str], None]) -> Iterator[int]:
    path = DIRECTORY / f"{cable}.lock"
    with file_errors(path):
        lock = _lock(path, deadline, waiting)
    try:
        yield lock
    finally:
        path.unlink(missing_ok=True)  # before it is released, else it may be another run's
        os.close(lock)
        with suppress(OSError):  # it has the files of another cable
            DIRECTORY.rmdir()


def _lock(path: Path, deadline: float, waiting: Callable[[str], None]) -> int:
    has_told = False
    while True:
        DIRECTORY.mkdir(mode=0o700, exist_ok=True)
        with suppress(FileNotFoundError):  # another run has just removed the directory
            file = _high(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
            os.set_inheritable(file, True)  # for commands that keep the lock
            if locked(file, path):
                return file
            pid = os.pread(file, 20, 0).decode()
            os.close(file)
            holder = f"another cablectl (PID {pid})" if pid else "another cablectl"
            if time.monotonic() > deadline:
                raise BusyError(
                    f"{holder} is at work on this cable", hint="wait until it ends, or stop it"
                )
            if not has_told:
                waiting(f"waiting for {holder}, which is at work on this cable")
                has_told = True
            time.sleep(POLL)


def _high(file: int) -> int:
    """Give a file a high number, since select(2) takes no number above 1023; close the low one."""
    try:
        return fcntl.fcntl(file, fcntl.F_DUPFD, FIRST_LOCK)
    finally:
        os.close(file)


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
