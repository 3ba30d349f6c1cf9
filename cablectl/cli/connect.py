"""`cablectl connect`: bring a cable up."""

from functools import partial
from typing import Annotated

import typer

from cablectl import host
from cablectl.cli import common
from cablectl.plan import WAIT_LIMIT, Action
from cablectl.plan import connect as planning

DAY = 24 * 60 * 60  # seconds


def connect(
    files: common.Files,
    local: common.Local = None,
    peer: common.Peers = None,
    timeout: Annotated[
        int,
        typer.Option(
            min=1,
            max=DAY,
            metavar="S",
            help="Seconds to wait for the Child SAs, and for another cablectl to end.",
        ),
    ] = WAIT_LIMIT,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Don't wait for the Child SAs.")
    ] = False,
    dry_run: common.DryRun = False,
) -> None:
    """Bring the cables up: IPsec first, then the overlay in it.

    Run it on every gateway, with the same file. What fails is undone; what is there already stays.
    """
    these = common.chosen(files, local, peer)
    plan = partial(
        planning.plan, these.cables, wait=not no_wait, limit=timeout, narrowed=these.narrowed
    )
    if dry_run:
        common.show(plan(common.dry_facts(these, Action.CONNECT)))
    else:
        common.apply(these, lambda: plan(host.facts_of(these.cables)), timeout)
