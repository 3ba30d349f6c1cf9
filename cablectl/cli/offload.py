"""`cablectl offload`: whether the NIC offloads ESP."""

import sys
from typing import Annotated

import typer

from cablectl.cli import options, reporting, source


def offload(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="The cable's file, or Submariner's documents. [default: every cable of this host]",
        ),
    ] = None,
    local: options.Local = None,
    peer: options.Peers = None,
    format: options.Format = options.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Show whether the NIC really offloads a cable's ESP.

    The report has the file's setting, the features of NIC and kernel, and the SAs. Only the SAs are
    proof. Nothing is changed.
    """
    from cablectl.host import offloading
    from cablectl.render.nic_report import nic_report
    from cablectl.render.offload_table import print_table

    source.refuse_ends_without_file(files, local, peer)
    if files:
        reports = offloading.offload_of(source.chosen(files, local, peer).cables)
    else:
        reports = offloading.offload_of_all()
    if format is options.ReportFormat.JSON:
        reporting.show(reporting.of_result("offload", nic_report(reports)))
    else:
        print_table(reports, sys.stdout)
