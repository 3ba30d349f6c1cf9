"""`cablectl plan`: show the commands."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cablectl import host, render
from cablectl.cli import common
from cablectl.errors import UsageError
from cablectl.libreswan import parse_version
from cablectl.plan import Action, connect, teardown


class Format(StrEnum):
    """How a plan is printed."""

    SH = "sh"
    JSON = "json"
    TABLE = "table"


def plan(
    files: common.Files,
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
    if libreswan and not dry_run:
        raise UsageError("--libreswan goes with --dry-run: else it is this host's")
    release = parse_version(libreswan) if libreswan else None
    cable = common.cable(files, local)
    facts = common.dry_facts(cable, action, release) if dry_run else host.facts(cable)
    plan = connect.plan(cable, facts) if action is Action.CONNECT else teardown.plan(cable, facts)
    if format is Format.SH:
        common.show(plan)
        return
    common.warn(plan)
    if format is Format.JSON:
        print(render.as_json(plan))
    else:
        render.print_table(plan, sys.stdout)
