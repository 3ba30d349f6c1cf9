"""What can go wrong, split by what the user should do about it: each kind has its exit code."""

from collections.abc import Iterable


class CablectlError(Exception):
    """It failed, and what was done was undone: exit code 1.

    `message` is one line that says what and where; `hint` is one line that says what to do;
    `details` is what a failed command printed, or the other problems of the same file.
    """

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "", details: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = tuple(details)


class UsageError(CablectlError):
    """The command line or the file is wrong, and nothing was changed: exit code 2."""

    exit_code = 2


class HostNotReadyError(CablectlError):
    """The file is right but this host can't do it yet: exit code 3."""

    exit_code = 3


class TimeLimitError(CablectlError):
    """A time limit passed, and what was done was undone: exit code 4."""

    exit_code = 4
