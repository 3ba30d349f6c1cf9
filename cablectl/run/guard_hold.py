"""The hold of a watcher on a guard, which a teardown ends."""

import fcntl
import os
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from cablectl.errors import TimeLimitError
from cablectl.linux import guard_file
from cablectl.run import journal
from cablectl.run.hold import Hold

LET_GO_LIMIT = 10  # seconds for the watcher to let go: it may wait 5 s for nft
POLL = 0.02  # seconds between two looks whether the watcher has let go


def hold(bundle: str) -> Hold:
    """Return the hold on one guard; HostNotReadyError if another watcher has it."""
    return Hold(_path(bundle), "guard", f"the guard of {bundle}")


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
