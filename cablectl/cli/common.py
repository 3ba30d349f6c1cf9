"""What the commands share: their arguments, and the way from a file to a cable."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cablectl import host, render, spec
from cablectl.libreswan import Version, parse_version
from cablectl.model import Cable
from cablectl.plan import Plan

File = Annotated[str, typer.Argument(metavar="FILE", help="The cable's YAML file.")]
Local = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        help="Which end this is: cluster, hostname or address. [default: by address]",
    ),
]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the whole sequence as a script; change nothing.")
]


def cable(file: str, local: str | None) -> Cable:
    """Return the cable of the file, seen from the end that is named or that this host is."""
    network = spec.parse(host.read_file(file), file)
    end = network.named(local) if local else network.held_by(host.addresses())
    return network.cable(end)


def dry_plan(this: Cable, action: str, version: Version | None = None) -> Plan:
    """Return the whole sequence for a host that has nothing, or all, of the cable."""
    from cablectl.facts import connected
    from cablectl.plan import connect, teardown

    facts = host.dry_facts(this, version)
    if action == "connect":
        return connect.plan(this, facts)
    mtu = connect.overlay_mtu(this, facts)
    return teardown.plan(this, connected(this, facts.libreswan, mtu))


def warn(plan: Plan) -> None:
    """Say on stderr what a person should know before anything happens."""
    for warning in plan.warnings:
        print(f"cablectl: warning: {warning}", file=sys.stderr)


def version(text: str | None) -> Version | None:
    """Return the release that an option names."""
    return parse_version(text) if text else None


def apply(make_plan: Callable[[], Plan]) -> None:
    """Run a plan, with progress on stderr and the outcome on stdout."""
    from cablectl import execute  # its library, sh, costs 35 ms that no dry run needs

    progress = render.progress(sys.stderr)
    try:
        plan = execute.apply(make_plan, progress)
    finally:
        progress.close()
    warn(plan)
    print(render.as_summary(plan))
