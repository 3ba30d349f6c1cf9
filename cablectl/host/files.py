"""Files that a person names: read whole, or written whole, never over an existing file."""

import io
import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from cablectl.errors import UsageError

IN_THE_WAY = "choose another path, or remove the file first"
MAX_FILE = 1 << 20  # bytes; 2,000 endpoints take a third


def read(name: str) -> str:
    """Return the text of a file, or of standard input for -.

    UsageError if the file isn't a readable regular file, is too large, or isn't text.
    """
    try:
        if name == "-":
            given = sys.stdin.buffer.read(MAX_FILE + 1) if sys.stdin else b""  # None if closed
            return _text(given, "standard input")
        with opened(name) as file:
            return _text(file.read(MAX_FILE + 1), name)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def opened(name: str, flags: int = 0) -> BinaryIO:
    """Open a regular file for reading; UsageError for a directory, FIFO or device, or OSError.

    The kind is checked after opening, so that nobody can exchange the file in between. O_NONBLOCK
    keeps a FIFO without a writer from blocking.
    """
    number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UsageError(f"{name}: not a regular file", hint="give the path of a file")
    return os.fdopen(number, "rb")


def _text(content: bytes, name: str) -> str:
    if len(content) > MAX_FILE:
        raise UsageError(
            f"{name}: larger than {MAX_FILE} bytes", hint="give the path of a YAML file"
        )
    try:
        return content.decode()
    except ValueError:
        raise UsageError(
            f"{name}: not text in UTF-8", hint="give the path of a YAML file"
        ) from None


def must_be_new(name: str) -> None:
    """Raise a UsageError if the path exists."""
    if os.path.lexists(name):
        raise UsageError(f"{name} exists already", hint=IN_THE_WAY)


def write(name: str, text: str) -> None:
    """Write a new file; UsageError if it exists already or can't be written."""
    must_be_new(name)
    try:
        with Path(name).open("x", encoding="utf-8") as file:  # fails if it was made in between
            try:
                file.write(text)
                file.flush()
            except OSError:
                Path(name).unlink()  # a part of a file isn't what was asked for
                raise
    except OSError as error:
        raise _not_written(name, error) from None


def write_archive(name: str, members: dict[str, str]) -> None:
    """Write texts into a new .tar.gz that only its owner can read; UsageError as `write`."""
    import tarfile

    folder = Path(name).name.partition(".")[0]
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        with (
            os.fdopen(os.open(name, new, 0o600), "wb") as file,
            tarfile.open(fileobj=file, mode="w:gz") as archive,
        ):
            for member, text in members.items():
                content = text.encode()
                info = tarfile.TarInfo(f"{folder}/{member}")
                info.size, info.mode = len(content), 0o600
                archive.addfile(info, io.BytesIO(content))
    except OSError as error:
        raise _not_written(name, error) from None


def _not_written(name: str, error: OSError) -> UsageError:
    if isinstance(error, FileExistsError):
        return UsageError(f"{name} exists already", hint=IN_THE_WAY)
    return UsageError(f"{name}: {error.strerror}")
