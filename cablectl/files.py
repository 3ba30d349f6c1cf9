"""Files that a person names: read whole, or written whole, never over one that is there."""

import os
import stat
import sys
from pathlib import Path

from cablectl.errors import HostNotReadyError, UsageError

MAX_FILE = 1 << 20  # bytes; 2,000 endpoints are a third of it


def read(name: str) -> str:
    """Return the text of a file, or of standard input for -.

    UsageError if it is no readable, small, regular text file.
    """
    if name == "-":
        return _text(sys.stdin.buffer.read(MAX_FILE + 1), "standard input")
    path = Path(name)
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{name}: not a regular file", hint="give the path of a YAML file")
        with path.open("rb") as file:
            return _text(file.read(MAX_FILE + 1), name)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def _text(content: bytes, name: str) -> str:
    if len(content) > MAX_FILE:
        raise UsageError(f"{name}: larger than {MAX_FILE} bytes", hint="is it the right file?")
    try:
        return content.decode()
    except ValueError:
        raise UsageError(
            f"{name}: not text in UTF-8", hint="give the path of a YAML file"
        ) from None


def must_be_new(name: str) -> None:
    """Raise a UsageError if there is a file of that name, or anything else."""
    if os.path.lexists(name):
        raise UsageError(f"{name}: there is one already", hint="remove it first")


def write(name: str, text: str) -> None:
    """Write a new file; UsageError if there is one already, or none can be."""
    must_be_new(name)
    try:
        with Path(name).open("x", encoding="utf-8") as file:  # whatever came in between
            file.write(text)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None


def write_key(name: str, key: str) -> bool:
    """Write a key to a file of its own, readable by its owner alone; tell whether it was new.

    HostNotReadyError if the file holds another key, or can't be written.
    """
    content = f"{key}\n".encode()
    new = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    try:
        Path(name).parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(name, new, 0o600), "wb") as file:
            file.write(content)
    except FileExistsError:
        path = Path(name)
        if path.is_file() and path.read_bytes().rstrip(b"\r\n") == content.rstrip(b"\n"):
            return False
        raise HostNotReadyError(
            f"{name} is there and holds something else", hint="name another place with --psk-file"
        ) from None
    except OSError as error:
        raise HostNotReadyError(
            f"{name}: {error.strerror}", hint="the same with sudo, or another --psk-file"
        ) from None
    return True
