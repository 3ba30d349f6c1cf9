"""Several new files at once: all of them, or none, also if the program is interrupted."""

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from cablectl.errors import HostNotReadyError
from cablectl.host import keys

IN_THE_WAY = "move it to the gateway, or choose another directory with --out"


def refuse_existing(directory: Path, names: Mapping[str, bytes]) -> None:
    """Raise HostNotReadyError if a directory has a file of these names, or isn't safe."""
    keys.refuse_unsafe(directory)
    for name in names:
        if os.path.lexists(directory / name):
            raise HostNotReadyError(f"{directory / name} exists already", hint=IN_THE_WAY)


def place(directory: Path, contents: Mapping[str, bytes]) -> None:
    """Write new files of mode 0600 into a directory of mode 0700, in order.

    A new directory appears with all its files. In an existing one the last file appears last.
    HostNotReadyError if one exists already, or if a file can't be written; then there is none.
    """
    refuse_existing(directory, contents)
    with keys.reported(directory):
        if not directory.exists():
            _make(directory, contents)
            return
    done: list[Path] = []
    try:
        for name, raw in contents.items():
            done.append(directory / name)
            if not keys.place(done[-1], raw.decode().rstrip("\n")):
                done.pop()
                raise HostNotReadyError(f"{directory / name} exists already", hint=IN_THE_WAY)
    except BaseException:
        for path in done:
            path.unlink(missing_ok=True)
        raise


def _make(directory: Path, contents: Mapping[str, bytes]) -> None:
    directory.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    keys.refuse_unsafe(directory)  # those that are new as well
    made = Path(tempfile.mkdtemp(dir=directory.parent, prefix=f".{directory.name}."))  # mode 0700
    try:
        for name, raw in contents.items():
            (made / name).parent.mkdir(mode=0o700, exist_ok=True)
            write(made / name, raw)
        made.rename(directory)
    except BaseException:
        shutil.rmtree(made, ignore_errors=True)
        raise


def write(path: Path, raw: bytes) -> None:
    """Write a new file of mode 0600 in a directory that nobody else uses."""
    number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    with os.fdopen(number, "wb") as file:
        file.write(raw)


def exchange(path: Path, raw: bytes) -> None:
    """Replace a file at once by one of mode 0600; HostNotReadyError if it can't be written."""
    with keys.reported(path):
        number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        made = Path(name)
        try:
            with os.fdopen(number, "wb") as file:
                file.write(raw)
            made.replace(path)
        except BaseException:
            made.unlink(missing_ok=True)
            raise
