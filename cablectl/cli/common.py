"""What the commands share: their arguments, and the way from a file to a cable."""

import sys
from collections.abc import Callable
from typing import Annotated

import typer

from cablectl import host, render, spec
from cablectl.facts import Facts, connected
from cablectl.libreswan import Version
from cablectl.model import Cable
from cablectl.plan import Action, Plan

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


def dry_facts(this: Cable, action: Action, release: Version | None = None) -> Facts:
    """Return the facts of a host that has nothing (connect) or all (teardown) of the cable."""
    facts = host.dry_facts(this, release)
    if action is Action.CONNECT:
        return facts
    return connected(this, facts.libreswan, facts.path_mtu)


def show(plan: Plan) -> None:
    """Print a plan as a script."""
    warn(plan)
    sys.stdout.write(render.as_script(plan))


def warn(plan: Plan) -> None:
    """Say on stderr what a person should know before they run it."""
    for line in render.as_warnings(plan):
        print(line, file=sys.stderr)


def apply(make_plan: Callable[[], Plan]) -> None:
    """Run a plan, with progress on stderr and the outcome on stdout."""
    from cablectl import execute  # its library, sh, costs 35 ms that no dry run needs

    progress = render.progress(sys.stderr)
    try:
        plan = execute.apply(make_plan, progress)
    finally:
        progress.close()
    print(render.as_summary(plan))
