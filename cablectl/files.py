"""Files that a person names: read whole, or written whole, never over one that is there."""

import os
import stat
import sys
from pathlib import Path
from typing import BinaryIO

from cablectl.errors import UsageError

MAX_FILE = 1 << 20  # bytes; 2,000 endpoints are a third of it


def read(name: str) -> str:
    """Return the text of a file, or of standard input for -.

    UsageError if it is no readable, small, regular text file.
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
    """Open a regular file to read it; UsageError if it is another kind of thing, or OSError.

    Looked at when it is open, so that nothing else can take its place, and not waited for: a FIFO
    has no writer.
    """
    number = os.open(name, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | flags)
    if not stat.S_ISREG(os.fstat(number).st_mode):
        os.close(number)
        raise UsageError(f"{name}: not a regular file", hint="give the path of a file")
    return os.fdopen(number, "rb")


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
