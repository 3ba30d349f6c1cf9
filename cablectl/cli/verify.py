"""`cablectl verify`: prove that a cable encrypts."""

import sys
from typing import Annotated

import typer

from cablectl.cli import common


def verify(
    files: common.Files,
    local: common.Local = None,
    count: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="How many packets to send.")
    ] = 20,
    size_sweep: Annotated[
        bool,
        typer.Option("--size-sweep", help="Find the largest packet that passes as well."),
    ] = False,
    format: common.Format = common.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Send over the cable, and prove that it encrypts.

    The SAs have to count what is sent and answered, their ESP has to be on the wire, and nothing of
    the cable in clear text: the exit code is 0 only if every claim holds. Nothing is changed.
    """
    cable = common.cable(files, local)
    from cablectl import proof  # and sockets and threads, which no dry run needs
    from cablectl import verify as room
    from cablectl.render import verify as render

    evidence = room.verify(cable, count, sizes=size_sweep)
    claims = proof.claims(evidence)
    if format is common.ReportFormat.JSON:
        print(render.as_json(evidence, claims))
    else:
        render.print_table(evidence, claims, sys.stdout)
    if not proof.proven(claims):
        raise typer.Exit(1)
