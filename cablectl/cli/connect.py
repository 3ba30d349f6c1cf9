"""`cablectl connect`: bring a cable up."""

from functools import partial
from typing import Annotated

import typer

from cablectl.cli import options, running, source
from cablectl.host import reading
from cablectl.plan import connect_plan
from cablectl.plan.steps import WAIT_LIMIT, Action

DAY = 24 * 60 * 60  # seconds


def connect(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
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
    dry_run: options.DryRun = False,
    format: options.Outcome = options.OutcomeFormat.TEXT,  # noqa: A002
) -> None:
    """Bring the cables up: IPsec first, then the overlay in it.

    Run it on every gateway, with the same file. What fails is undone; what is there already stays.
    """
    running.refuse_json_of_a_dry_run(format, dry_run=dry_run)
    these = source.chosen(files, local, peer)
    plan = partial(
        connect_plan.plan, these.cables, wait=not no_wait, limit=timeout, narrowed=these.narrowed
    )
    if dry_run:
        running.show(plan(running.dry_facts(these, Action.CONNECT)))
    else:
        running.apply(these, lambda: plan(reading.facts_of(these.cables)), timeout, format)
