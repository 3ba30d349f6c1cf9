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
    cable = common.cable(files, local)
    if dry_run:
        common.show(planning.plan(cable, common.dry_facts(cable, Action.TEARDOWN)))
    else:
        common.apply(cable, lambda: planning.plan(cable, host.facts(cable)), timeout)
