"""`cablectl teardown`: remove what connect made."""

import sys

from cablectl import host, render
from cablectl.cli import common
from cablectl.plan import teardown as planning


def teardown(file: common.File, local: common.Local = None, dry_run: common.DryRun = False) -> None:
    """Remove what connect made here, and nothing else.

    The overlay goes first, then IPsec. What is missing already is fine, and pluto may be dead.
    """
    cable = common.cable(file, local)
    if dry_run:
        sys.stdout.write(render.as_script(common.dry_plan(cable, "teardown")))
        return
    common.apply(lambda: planning.plan(cable, host.facts(cable)))
