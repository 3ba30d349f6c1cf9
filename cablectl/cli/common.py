"""What the commands share: their arguments, and the way from a file to a cable."""

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import Annotated, NamedTuple

import typer

from cablectl import files, host, keys, render, spec
from cablectl.cable import Cable, Network
from cablectl.cli import completion
from cablectl.errors import CablectlError, TimeLimitError, UsageError
from cablectl.facts import Facts, Stray, connected
from cablectl.libreswan import Version
from cablectl.plan import Action, Outcome, Plan

Files = Annotated[
    list[str],
    typer.Argument(
        metavar="FILE...",
        help="The cable's YAML file, or Submariner's documents; - is standard input.",
    ),
]
Local = Annotated[
    str | None,
    typer.Option(
        metavar="NAME",
        autocompletion=completion.ends,
        help="Which end this is: cluster, hostname or address."
        " [default: the one with this host's address]",
    ),
]
Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="NAME",
        autocompletion=completion.ends,
        help="The cable to this peer alone: cluster, hostname or address. May be given again."
        " [default: all]",
    ),
]
APIVERSION = "apiVersion"  # every object of Kubernetes has one, no file of cablectl does


class ReportFormat(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"


Format = Annotated[ReportFormat, typer.Option(help="How to print it.")]
DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the whole sequence as a script; change nothing.")
]


class Chosen(NamedTuple):
    """The cables that a command is for, those of the file that it leaves alone, and if it is told.

    Whoever names peers means them alone, also where the file has no others.
    """

    cables: tuple[Cable, ...]
    others: tuple[Cable, ...]
    narrowed: bool


def chosen(names: list[str], local: str | None, peers: list[str] | None) -> Chosen:
    """Return the cables of the files, seen from the end that is named or that this host is."""
    network = described(names)
    if host.forces_encapsulation():
        network = network.encapsulated()
    end = network.named(local) if local else network.held_by(host.addresses())
    every, named = network.cables(end), network.cables(end, peers or ())
    ids = {each.id for each in named}
    others = tuple(each for each in every if each.id not in ids)
    return Chosen(named, others, narrowed=bool(peers))


def described(names: list[str]) -> Network:
    """Return what the files describe: one of cablectl's, or documents of Submariner."""
    texts = {name: files.read(name) for name in names}
    if APIVERSION not in "".join(texts.values()):
        if len(texts) == 1:
            return spec.parse(texts[names[0]], names[0])
        raise UsageError(
            f"{len(texts)} files, and none is a document of Submariner",
            hint="give one file of cablectl; it describes all ends",
        )
    from cablectl import submariner  # only who has such documents waits for it

    found = submariner.parse(texts)
    notes(found.notes)
    if found.key:
        keys.put_into_environment(submariner.VARIABLE, found.key)
    return found.network


def notes(lines: Iterable[str]) -> None:
    """Say on stderr what was left out of documents."""
    for line in lines:
        print(f"cablectl: note: {line}", file=sys.stderr)


def dry_facts(these: Chosen, action: Action, release: Version | None = None) -> tuple[Facts, ...]:
    """Return the facts of a host that has nothing (connect) or all (teardown) of the cables."""
    facts = host.dry_facts_of(these.cables, release)
    if action is Action.CONNECT:
        return facts
    others = tuple(Stray(id=each.id, gateway=each.remote_host) for each in these.others)
    return tuple(
        connected(cable, its, its.path_mtu, strays=others)
        for cable, its in zip(these.cables, facts, strict=True)
    )


def show(plan: Plan) -> None:
    """Print a plan as a script."""
    warn(plan)
    sys.stdout.write(render.as_script(plan))


def warn(plan: Plan) -> None:
    """Say on stderr what a person should know before they run it."""
    for line in render.as_warnings(plan):
        print(line, file=sys.stderr)


def apply(these: Chosen, make_plan: Callable[[], Plan], wait: float) -> None:
    """Run a plan, with progress on stderr and the outcome on stdout.

    `wait` is how many seconds another cablectl at work on the cables has to end.
    """
    host.refuse_others_than_root()
    from cablectl import execute  # its library, sh, costs 35 ms that no dry run needs
    from cablectl.render.progress import progress as progress_on

    progress = progress_on(sys.stderr)
    try:
        outcome = execute.apply(these.cables[0].bundle, make_plan, progress, wait)
    finally:
        progress.close()
    if told := render.as_summary(outcome):
        print(told)
    refuse_failed(outcome)


def refuse_failed(outcome: Outcome) -> None:
    """Raise one error for the cables that failed, if any did; TimeLimitError if by time alone."""
    failed = {**outcome.plan.refused, **outcome.failed}
    if not failed:
        return
    kind = CablectlError
    if all(isinstance(each, TimeLimitError) for each in failed.values()):
        kind = TimeLimitError
    count = len({each.id for each in outcome.plan.cables} | failed.keys())
    lines = [
        line
        for name, each in failed.items()
        for line in (f"{name}: {each.message}", *(f"  {detail}" for detail in each.details))
    ]
    hint = next((each.hint for each in failed.values() if each.hint), "")
    raise kind(f"{len(failed)} of {count} cables failed", details=lines, hint=hint)
