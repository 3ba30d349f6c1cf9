"""`cablectl teardown`: remove what connect made."""

from functools import partial
from typing import Annotated

import typer

from cablectl.cli import options, running, source
from cablectl.host import reading
from cablectl.plan.steps import WAIT_LIMIT, Action


def teardown(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    timeout: Annotated[
        float,
        typer.Option(
            parser=options.number(float, "a number of seconds", 1),
            metavar="S",
            help="Seconds to wait for another cablectl to end, at least 1.",
        ),
    ] = WAIT_LIMIT,
    keep_guard: Annotated[
        bool,
        typer.Option(
            "--keep-guard", help="Leave the guard loaded: clear text of the cable is dropped."
        ),
    ] = False,
    dry_run: options.DryRun = False,
    format: options.Outcome = options.OutcomeFormat.TEXT,  # noqa: A002
) -> None:
    """Remove what connect made on this host, and nothing else.

    The overlay is removed first, then IPsec. It is no error if a part is missing already, or if
    pluto isn't running.
    """
    running.refuse_json_of_a_dry_run(format, dry_run=dry_run)
    chosen = source.chosen(files, local, peer, trusted=not dry_run)
    from cablectl.plan import teardown_plan  # no dry run of connect needs it

    plan = partial(
        teardown_plan.plan, chosen.cables, narrowed=chosen.narrowed, keep_guard=keep_guard
    )
    if dry_run:
        running.show(plan(running.dry_facts(chosen, Action.TEARDOWN)))
    else:
        from cablectl.plan import rotate_plan

        running.apply(
            chosen,
            lambda: plan(reading.facts_of(chosen.cables)),
            timeout,
            format,
            rotate_plan.removed,
        )
