"""`cablectl connect`: bring a cable up."""

from functools import partial
from typing import Annotated

import typer

from cablectl.cli import options, running, source
from cablectl.host import reading
from cablectl.plan import connect_plan
from cablectl.plan.steps import WAIT_LIMIT, Action, Plan

DAY = 24 * 60 * 60  # seconds


def connect(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    timeout: Annotated[
        int,
        typer.Option(
            parser=options.number(int, "a whole number of seconds", 1, DAY),
            metavar="S",
            help=f"Seconds to wait for the Child SAs, and for another cablectl to end, 1 to {DAY}.",
        ),
    ] = WAIT_LIMIT,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Don't wait for the Child SAs.")
    ] = False,
    dry_run: options.DryRun = False,
    format: options.Outcome = options.OutcomeFormat.TEXT,  # noqa: A002
) -> None:
    """Bring the cables up: IPsec first, then the overlay.

    Run connect on every gateway, with the same file. If a cable fails, connect rolls back what it
    did for that cable. What is in place already stays.
    """
    running.refuse_json_of_a_dry_run(format, dry_run=dry_run)
    chosen = source.chosen(files, local, peer, trusted=not dry_run)
    plan = partial(
        connect_plan.plan, chosen.cables, wait=not no_wait, limit=timeout, narrowed=chosen.narrowed
    )
    if dry_run:
        running.show(plan(running.dry_facts(chosen, Action.CONNECT)))
    else:
        from cablectl.host import packet_filters

        def make_plan() -> Plan:
            return plan(packet_filters.with_nat(chosen.cables, reading.facts_of(chosen.cables)))

        running.apply(chosen, make_plan, timeout, format)
