"""`cablectl teardown`: remove what connect made."""

from functools import partial
from typing import Annotated

import typer

from cablectl.cli import options, running, source
from cablectl.host import reading
from cablectl.plan import teardown_plan
from cablectl.plan.steps import WAIT_LIMIT, Action


def teardown(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="S", help="Seconds to wait for another cablectl to end.")
    ] = WAIT_LIMIT,
    dry_run: options.DryRun = False,
    format: options.Outcome = options.OutcomeFormat.TEXT,  # noqa: A002
) -> None:
    """Remove what connect made here, and nothing else.

    The overlay goes first, then IPsec. What is missing already is fine, and pluto may be dead.
    """
    running.refuse_json_of_a_dry_run(format, dry_run=dry_run)
    these = source.chosen(files, local, peer)
    plan = partial(teardown_plan.plan, these.cables, narrowed=these.narrowed)
    if dry_run:
        running.show(plan(running.dry_facts(these, Action.TEARDOWN)))
    else:
        running.apply(these, lambda: plan(reading.facts_of(these.cables)), timeout, format)
