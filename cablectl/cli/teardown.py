"""`cablectl teardown`: remove what connect made."""

from functools import partial
from typing import Annotated

import typer

from cablectl import host
from cablectl.cli import common
from cablectl.plan import WAIT_LIMIT, Action
from cablectl.plan import teardown as planning


def teardown(
    files: common.Files,
    local: common.Local = None,
    peer: common.Peers = None,
    timeout: Annotated[
        float, typer.Option(min=1, metavar="S", help="Seconds to wait for another cablectl to end.")
    ] = WAIT_LIMIT,
    dry_run: common.DryRun = False,
) -> None:
    """Remove what connect made here, and nothing else.

    The overlay goes first, then IPsec. What is missing already is fine, and pluto may be dead.
    """
    these = common.chosen(files, local, peer)
    plan = partial(planning.plan, these.cables, narrowed=these.narrowed)
    if dry_run:
        common.show(plan(common.dry_facts(these, Action.TEARDOWN)))
    else:
        common.apply(these, lambda: plan(host.facts_of(these.cables)), timeout)
