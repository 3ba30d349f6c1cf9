"""`cablectl status`: whether cables are up. A dry run imports nothing of its rooms."""

import sys
from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TYPE_CHECKING, Annotated, assert_never

import typer

from cablectl.cli import options, reporting, source
from cablectl.errors import CablectlError, UsageError
from cablectl.render.text import as_error

if TYPE_CHECKING:
    from cablectl.status.report import StatusReport


class Format(StrEnum):
    """The formats of a state."""

    TABLE = "table"
    JSON = "json"
    PROMETHEUS = "prometheus"


def status(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="The cable's file, or Submariner's documents. [default: every cable of this host]",
        ),
    ] = None,
    local: options.Local = None,
    peer: options.Peers = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it every 2 seconds, with rates, until Ctrl-C.")
    ] = False,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.TABLE,  # noqa: A002
) -> None:
    """Show whether cables are up.

    The report has the connections, the SAs and their traffic, the overlay, the guard, and offload.
    The exit code is 0 only if there is a cable and every cable is up. Nothing is changed.
    """
    from cablectl.host import cables

    source.refuse_ends_without_file(files, local, peer)
    if watch and format is Format.PROMETHEUS:
        raise UsageError(
            "--watch doesn't go with --format prometheus",
            hint="leave --watch out, and run status whenever the metrics are collected",
        )
    read = (
        partial(cables.report_of, source.chosen(files, local, peer).cables)
        if files
        else cables.report_of_all
    )
    if watch:
        _watch(read, format)
    report = read()
    _print(report, format)
    if not report.up:
        raise typer.Exit(1)


def _print(report: "StatusReport", format: Format) -> None:  # noqa: A002
    match format:
        case Format.JSON:
            reporting.show(reporting.of_result("status", report))
        case Format.PROMETHEUS:
            from cablectl.render import metrics  # with its library, which the others don't need

            sys.stdout.write(metrics.as_metrics(report))
        case Format.TABLE:
            from cablectl.render import status_table

            status_table.print_table(report, sys.stdout)
        case _:
            assert_never(format)


def _watch(read: Callable[[], "StatusReport"], format: Format) -> None:  # noqa: A002
    """Show reports until a signal comes."""
    from cablectl.host import cables
    from cablectl.render.watching import view
    from cablectl.run.signals import handled, leave

    with handled(leave):
        shown = _JsonLines() if format is Format.JSON else view(sys.stdout, sys.stderr)
        try:
            for report in cables.again_and_again(read):
                if isinstance(report, CablectlError):
                    shown.trouble(report)
                else:
                    shown.show(report)
        finally:
            shown.close()


class _JsonLines:
    """An envelope in a line of its own for each report, or for the error in its place."""

    def show(self, report: "StatusReport") -> None:
        reporting.show(reporting.of_result("status", report), one_line=True)

    def trouble(self, error: CablectlError) -> None:
        reporting.show(reporting.of_error("status", error), one_line=True)
        print(as_error(error, sys.stderr), file=sys.stderr, flush=True)

    def close(self) -> None:
        """Do nothing: nothing was opened."""
