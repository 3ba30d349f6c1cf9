"""`cablectl teardown`: remove what connect made."""

from typing import Annotated

import typer

from cablectl import host
from cablectl.cli import common
from cablectl.plan import WAIT_LIMIT, Action
from cablectl.plan import teardown as planning


def teardown(
    files: common.Files,
    local: common.Local = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="S", help="Seconds to wait for another cablectl to end.")
    ] = WAIT_LIMIT,
    dry_run: common.DryRun = False,
) -> None:
    """Remove what connect made here, and nothing else.

    The overlay goes first, then IPsec. What is missing already is fine, and pluto may be dead.
    """
    cables = common.cables(files, local)
    if dry_run:
        common.show(planning.plan(cables, common.dry_facts(cables, Action.TEARDOWN)))
    else:
        common.apply(cables, lambda: planning.plan(cables, host.facts_of(cables)), timeout)
