"""Ways in which a file or a directory can't be trusted, for the tests of keys."""

import os
from pathlib import Path


def elsewhere(path: Path) -> None:
    """Move something away and leave a symlink to it."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to("elsewhere")


def open_to_all(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o002)


def open_to_a_group(path: Path) -> None:
    if os.getuid() == 0:
        os.chown(path, -1, 4711)
    path.chmod(path.stat().st_mode | 0o020)


def as_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)
