"""`cablectl verify`: prove that a cable encrypts."""

import sys
from typing import Annotated

import typer

from cablectl.cli import common


def verify(
    files: common.Files,
    local: common.Local = None,
    peer: common.Peers = None,
    count: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="How many packets to send.")
    ] = 20,
    size_sweep: Annotated[
        bool,
        typer.Option("--size-sweep", help="Find the largest packet that passes as well."),
    ] = False,
    format: common.Format = common.ReportFormat.TABLE,  # noqa: A002
) -> None:
    """Send over the cable, and prove that it encrypts; of several cables, over each in turn.

    The SAs have to count what is sent and answered, their ESP has to be on the wire, and nothing of
    the cable in clear text: the exit code is 0 only if every claim holds. Nothing is changed.
    """
    cables = common.chosen(files, local, peer).cables
    from cablectl import proof  # and sockets and threads, which no dry run needs
    from cablectl import verify as room
    from cablectl.render import verify as render

    proven = True
    for number, cable in enumerate(cables):
        evidence = room.verify(cable, count, sizes=size_sweep)
        claims = proof.claims(evidence)
        if format is common.ReportFormat.JSON:
            print(render.as_json(evidence, claims))
        else:
            print("\n" if number else "", end="")
            render.print_table(evidence, claims, sys.stdout)
        proven = proven and proof.proven(claims)
    if not proven:
        raise typer.Exit(1)
