"""`cablectl plan`: show the commands."""

import sys
from enum import StrEnum
from typing import Annotated, assert_never

import typer

from cablectl.cli import completion, options, reporting, running, source
from cablectl.errors import UsageError
from cablectl.facts.host_facts import Facts
from cablectl.host import reading
from cablectl.libreswan.dialects import parse_version
from cablectl.plan.steps import Action, Plan
from cablectl.render import plans


class Format(StrEnum):
    """The formats of a plan."""

    DIFF = "diff"
    SH = "sh"
    JSON = "json"
    TABLE = "table"


def plan(
    files: options.Files,
    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Show the whole sequence, whatever this host has; needs no root and no Libreswan.",
        ),
    ] = False,
    local: options.Local = None,
    peer: options.Peers = None,
    libreswan: Annotated[
        str | None,
        typer.Option(
            metavar="VERSION",
            autocompletion=completion.releases,
            help="Release of Libreswan, with --dry-run."
            " [default: the installed one, else the newest]",
        ),
    ] = None,
    format: Annotated[  # noqa: A002
        Format | None,
        typer.Option(
            help="A line for each step, a script, JSON, or a table."
            " [default: diff; sh with --dry-run]"
        ),
    ] = None,
    action: Annotated[Action, typer.Option(help="The command to plan.")] = Action.CONNECT,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help="Exit with 1 if anything would change.")
    ] = False,
) -> None:
    """Show the commands of connect or teardown, in order.

    Without --dry-run, this host is read, and a sign before each step says what it does: + adds,
    ~ alters, - removes, = has nothing to do. With --dry-run, the whole sequence is shown, whatever
    this host has. Nothing is changed.
    """
    if libreswan and not dry_run:
        raise UsageError("--libreswan needs --dry-run: without it, the installed release is used")
    release = parse_version(libreswan) if libreswan else None
    chosen = source.chosen(files, local, peer)
    if dry_run:
        facts = running.dry_facts(chosen, action, release)
    else:
        facts = reading.facts_of(chosen.cables)
        if action is Action.CONNECT:
            from cablectl.host import packet_filters

            facts = packet_filters.with_nat(chosen.cables, facts)
    plan = _planned(chosen, facts, action)
    running.warn(plan)
    _print(plan, format or (Format.SH if dry_run else Format.DIFF))
    if exit_code and plan.needed:
        raise typer.Exit(1)


def _planned(chosen: source.Chosen, facts: tuple[Facts, ...], action: Action) -> Plan:
    """Return the plan of an action; the room of the other action isn't imported."""
    match action:
        case Action.CONNECT:
            from cablectl.plan import connect_plan

            return connect_plan.plan(chosen.cables, facts, narrowed=chosen.narrowed)
        case Action.TEARDOWN:
            from cablectl.plan import teardown_plan

            return teardown_plan.plan(chosen.cables, facts, narrowed=chosen.narrowed)
        case _:
            assert_never(action)


def _print(plan: Plan, format: Format) -> None:  # noqa: A002
    match format:
        case Format.SH:
            sys.stdout.write(plans.as_script(plan))
        case Format.DIFF:
            sys.stdout.write(plans.as_difference(plan))
        case Format.JSON:
            from cablectl.render.plan_report import plan_report

            reporting.show(reporting.of_result("plan", plan_report(plan)))
        case Format.TABLE:
            plans.print_table(plan, sys.stdout)
        case _:
            assert_never(format)
