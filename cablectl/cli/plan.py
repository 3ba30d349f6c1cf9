"""`cablectl plan`: show the commands."""

import sys
from enum import StrEnum
from typing import Annotated

import typer

from cablectl import host, render
from cablectl.cli import common, completion
from cablectl.errors import UsageError
from cablectl.libreswan import parse_version
from cablectl.plan import Action, connect, teardown


class Format(StrEnum):
    """How a plan is printed."""

    DIFF = "diff"
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
    peer: common.Peers = None,
    libreswan: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            autocompletion=completion.releases,
            help="For which Libreswan, with --dry-run. [default: this host's, else the newest]",
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        Format | None,
        typer.Option(
            help="A line for each step, a script, JSON, or a table."
            " [default: diff; sh with --dry-run]"
        ),
    ] = None,
    action: Annotated[Action, typer.Option(help="What to plan.")] = Action.CONNECT,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if there is something to do.")
    ] = False,
) -> None:
    """Show what connect or teardown would do, in order.

    This host is read, and each step is + added, ~ altered, - removed, or = there already. With
    --dry-run the whole sequence is shown, whatever this host has. Nothing is changed.
    """
    if libreswan and not dry_run:
        raise UsageError("--libreswan goes with --dry-run: else it is this host's")
    release = parse_version(libreswan) if libreswan else None
    these = common.chosen(files, local, peer)
    facts = common.dry_facts(these, action, release) if dry_run else host.facts_of(these.cables)
    planning = connect.plan if action is Action.CONNECT else teardown.plan
    plan = planning(these.cables, facts, narrowed=these.narrowed)
    common.warn(plan)
    match format or (Format.SH if dry_run else Format.DIFF):
        case Format.SH:
            sys.stdout.write(render.as_script(plan))
        case Format.DIFF:
            sys.stdout.write(render.as_difference(plan))
        case Format.JSON:
            print(render.as_json(plan))
        case Format.TABLE:
            render.print_table(plan, sys.stdout)
    if exit_code and plan.needed:
        raise typer.Exit(1)
