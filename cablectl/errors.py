"""The kinds of failure, by what the user has to do: each kind has its own exit code."""

from collections.abc import Iterable


class CablectlError(Exception):
    """A command failed and its changes were undone: exit code 1.

    `message` is one line: what is wrong, and where.
    `hint` is one line: what to do.
    `details` are further lines: the output of a failed command, or more problems of the same file.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class UsageError(CablectlError):
    """The command line or the file is wrong; nothing was changed: exit code 2."""

    exit_code = 2


class HostNotReadyError(CablectlError):
    """The file is right, but this host lacks something: exit code 3."""

    exit_code = 3


class TimeLimitError(CablectlError):
    """A time limit passed and the changes were undone: exit code 4."""

    exit_code = 4


class BusyError(TimeLimitError):
    """Another cablectl works on the cable, and doesn't end in time: exit code 4."""


class ClientAwayError(TimeLimitError):
    """The other end is awaited, such as a server's client; nothing was undone: exit code 5."""

    exit_code = 5
