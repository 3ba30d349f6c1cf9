"""The standard streams: what can't be written is one line, and no traceback."""

import errno
import io
import os
import sys
from typing import Any

from cablectl.errors import CablectlError

STDOUT, STDERR = 1, 2


class OutputError(CablectlError):
    """Standard output can't be written: exit code 1."""


class _Output(io.FileIO):
    """Standard output: an error of a write is an OutputError, unless the reader has left.

    It is told once: what is left is lost, and Python would try again at its end.
    """

    broken = False  # whether a write has failed

    def write(self, data: Any) -> Any:  # noqa: ANN401
        if self.broken:
            return memoryview(data).nbytes
        try:
            return super().write(data)
        except BrokenPipeError:
            raise
        except OSError as error:
            self.broken = True
            raise OutputError(f"cannot write standard output: {error.strerror}") from None


class _Closed(_Output):
    """Standard output that the caller closed."""

    def write(self, data: Any) -> Any:  # noqa: ANN401
        if self.broken:
            return memoryview(data).nbytes
        self.broken = True
        raise OutputError(f"cannot write standard output: {os.strerror(errno.EBADF)}")


class _Errors(io.FileIO):
    """Standard error: if it can't be written, nobody can be told."""

    def write(self, data: Any) -> Any:  # noqa: ANN401
        try:
            return super().write(data)
        except OSError:
            return memoryview(data).nbytes


def prepare() -> None:
    """Replace the standard streams. A closed one is opened, so that no other file gets its number.

    Names of files may hold bytes that are no text; these are escaped.
    """
    closed = sys.stdout is None
    for number in range(STDERR + 1):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number
    out = (_Closed if closed else _Output)(STDOUT, "w", closefd=False)
    errors = _Errors(STDERR, "w", closefd=False)
    sys.stdout = _text(io.BufferedWriter(out), sys.stdout)
    sys.stderr = _text(io.BufferedWriter(errors), sys.stderr, line_buffering=True)


def _text(
    buffer: io.BufferedWriter, like: object, *, line_buffering: bool = False
) -> io.TextIOWrapper:
    encoding = getattr(like, "encoding", None) or "utf-8"
    return io.TextIOWrapper(
        buffer,
        encoding=encoding,
        errors="backslashreplace",
        line_buffering=line_buffering or buffer.isatty(),
    )


def abandon_output() -> None:
    """Send what is still to be written nowhere: Python would try again at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), STDOUT)
