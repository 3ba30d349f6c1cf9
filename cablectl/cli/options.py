"""Options and arguments that several commands share."""

from enum import StrEnum
from typing import Annotated

import typer

from cablectl.cli import completion

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


class ReportFormat(StrEnum):
    """How a report is printed."""

    TABLE = "table"
    JSON = "json"


class OutcomeFormat(StrEnum):
    """How the outcome of a command that changes the host is printed."""

    TEXT = "text"
    JSON = "json"


Format = Annotated[ReportFormat, typer.Option(help="How to print it.")]


Outcome = Annotated[OutcomeFormat, typer.Option("--format", help="How to print the outcome.")]


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the whole sequence as a script; change nothing.")
]
