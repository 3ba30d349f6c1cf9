"""Repeated reports: redrawn on a terminal, else a line for each change."""

from datetime import UTC, datetime
from typing import Protocol, TextIO

from cablectl.errors import CablectlError
from cablectl.render.status_table import NO_CABLE, as_line, as_table
from cablectl.render.text import as_error, console
from cablectl.status.report import StatusReport


class View(Protocol):
    """Shows reports, and the errors that keep a report from being made."""

    def show(self, report: StatusReport) -> None:
        """Show a report."""

    def trouble(self, error: CablectlError) -> None:
        """Show an error in the place of a report."""

    def close(self) -> None:
        """Leave the stream as it was."""


class Lines:
    """A line for each cable, and another whenever its verdict or its reasons change."""

    def __init__(self, stream: TextIO, errors: TextIO) -> None:
        self._stream, self._errors = stream, errors
        self._printed: dict[str, str] = {}

    def show(self, report: StatusReport) -> None:
        """Print what changed, also that a cable was removed."""
        lines = {cable.cable: as_line(cable) for cable in report.cables} or {"": NO_CABLE}
        missing = self._printed.keys() - lines.keys() - {""}
        removed = {name: f"{name} removed" for name in missing}
        stamp = datetime.fromtimestamp(report.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, line in sorted({**lines, **removed}.items()):
            if self._printed.get(name) != line:
                print(stamp, line, file=self._stream, flush=True)
        self._printed = lines

    def trouble(self, error: CablectlError) -> None:
        """Print the error on stderr."""
        print(as_error(error, self._errors), file=self._errors, flush=True)

    def close(self) -> None:
        """Do nothing: nothing was opened."""


class Live:
    """The table, drawn over the table before."""

    def __init__(self, stream: TextIO) -> None:
        from rich.live import Live as Screen

        self._stream = stream
        self._screen = Screen(console=console(stream), auto_refresh=False)
        self._screen.start()

    def show(self, report: StatusReport) -> None:
        """Draw the report."""
        self._screen.update(as_table(report), refresh=True)

    def trouble(self, error: CablectlError) -> None:
        """Draw the error in the place of the table."""
        from rich.text import Text

        self._screen.update(Text.from_ansi(as_error(error, self._stream)), refresh=True)

    def close(self) -> None:
        """Leave the last table on the screen."""
        self._screen.stop()


def view(stream: TextIO, errors: TextIO) -> View:
    """Return the view that suits the stream."""
    if stream.isatty() and not console(stream).is_dumb_terminal:
        return Live(stream)
    return Lines(stream, errors)
