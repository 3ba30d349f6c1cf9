"""`cablectl plan`: show the commands."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cablectl import host, render
from cablectl.cli import common
from cablectl.plan import Action, connect, teardown


class Format(StrEnum):
    """How a plan is printed."""

    SH = "sh"
    JSON = "json"
    TABLE = "table"


def plan(
    file: common.File,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="The whole sequence, whatever this host has; needs no root and no Libreswan.",
        ),
    ] = False,
    local: common.Local = None,
    libreswan: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION", help="Which Libreswan, such as 4.10. [default: this host's]"
        ),
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.SH,  # noqa: A002
    action: Annotated[Action, typer.Option(help="What to plan.")] = Action.CONNECT,
) -> None:
    """Show the commands of connect or teardown, in order.

    With --dry-run the whole sequence; without it this host is read, and what is there already is
    marked as not needed. Nothing is run that changes anything.
    """
    cable = common.cable(file, local)
    if dry_run:
        plan = common.dry_plan(cable, action, common.version(libreswan))
    else:
        make = connect.plan if action is Action.CONNECT else teardown.plan
        plan = make(cable, host.facts(cable))
    common.warn(plan)
    if format is Format.SH:
        sys.stdout.write(render.as_script(plan))
    elif format is Format.JSON:
        print(render.as_json(plan))
    else:
        render.print_table(plan, sys.stdout)
