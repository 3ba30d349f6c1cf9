"""`cablectl offload`: what of ESP the NIC really does."""

import sys
from typing import Annotated

import typer

from cablectl import host
from cablectl.cli import common
from cablectl.errors import UsageError


def offload(
    files: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[FILE...]",
            help="The cable's file, or Submariner's documents. [default: every cable of this host]",
        ),
    ] = None,
    local: common.Local = None,
    peer: common.Peers = None,
    format: common.Format = common.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Show what of a cable's ESP the NIC really does.

    What is asked for, what NIC and kernel can, and the SAs, which alone tell the truth. Nothing is
    changed.
    """
    from cablectl.render import offload as render  # and json, which few dry runs need

    if files:
        reports = host.offload_of(common.chosen(files, local, peer).cables)
    elif local or peer:
        raise UsageError(f"--{'local' if local else 'peer'} goes with a FILE")
    else:
        reports = host.offload_of_all()
    if format is common.ReportFormat.JSON:
        print(render.as_json(reports))
    else:
        render.print_table(reports, sys.stdout)
