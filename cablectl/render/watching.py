"""The state of cables again and again: redrawn on a terminal, else a line for what changed."""

from datetime import UTC, datetime
from typing import Protocol, TextIO

from cablectl.errors import CablectlError
from cablectl.render.status_table import NO_CABLE, as_line, as_table
from cablectl.render.text import as_error, console
from cablectl.status.report import StatusReport


class View(Protocol):
    """Where each report is shown, and an error that keeps one from being made."""

    def show(self, report: StatusReport) -> None:
        """Show a report."""

    def trouble(self, error: CablectlError) -> None:
        """Show why there is none this time."""

    def close(self) -> None:
        """Leave the stream as it was."""


class Lines:
    """A line for each cable at first, and then whenever its verdict or its reasons change."""

    def __init__(self, stream: TextIO, errors: TextIO) -> None:
        self._stream, self._errors = stream, errors
        self._told: dict[str, str] = {}

    def show(self, report: StatusReport) -> None:
        """Say what changed, also that a cable is gone."""
        lines = {each.cable: as_line(each) for each in report.cables} or {"": NO_CABLE}
        gone = {name: f"{name} gone" for name in self._told.keys() - lines.keys() - {""}}
        stamp = datetime.fromtimestamp(report.time, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for name, line in sorted({**lines, **gone}.items()):
            if self._told.get(name) != line:
                print(stamp, line, file=self._stream, flush=True)
        self._told = lines

    def trouble(self, error: CablectlError) -> None:
        """Say it on stderr."""
        print(as_error(error, self._errors), file=self._errors, flush=True)

    def close(self) -> None:
        """Nothing is left open."""


class Live:
    """The table, drawn over the one before."""

    def __init__(self, stream: TextIO) -> None:
        from rich.live import Live as Screen

        self._stream = stream
        self._screen = Screen(console=console(stream), auto_refresh=False)
        self._screen.start()

    def show(self, report: StatusReport) -> None:
        """Draw it."""
        self._screen.update(as_table(report), refresh=True)

    def trouble(self, error: CablectlError) -> None:
        """Draw it in the table's place."""
        from rich.text import Text

        self._screen.update(Text.from_ansi(as_error(error, self._stream)), refresh=True)

    def close(self) -> None:
        """Leave the last one on the screen."""
        self._screen.stop()


def view(stream: TextIO, errors: TextIO) -> View:
    """Return the view that suits the stream."""
    if stream.isatty() and not console(stream).is_dumb_terminal:
        return Live(stream)
    return Lines(stream, errors)
