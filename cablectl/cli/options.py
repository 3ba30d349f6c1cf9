"""Options and arguments that several commands share."""

from collections.abc import Callable
from contextlib import suppress
from enum import StrEnum
from typing import Annotated, Any, TypeVar

import typer

from cablectl.cli import completion

DAY = 24 * 60 * 60  # seconds

Number = TypeVar("Number", int, float)


def number(
    kind: type[Number], words: str, least: int, most: int | None = None
) -> Callable[[str], Number]:
    """Return a parser of an option's value, whose error names what is allowed in words."""
    limits = f", at least {least}" if most is None else f" from {least} to {most}"

    def parse(text: str) -> Number:
        with suppress(ValueError):
            value = kind(text)
            if least <= value and (most is None or value <= most):
                return value
        raise typer.BadParameter(f"{text!r} is not {words}{limits}")

    return parse


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
        help="The end that this host is: cluster, hostname or address."
        " [default: the end that has this host's address]",
    ),
]


Peers = Annotated[
    list[str] | None,
    typer.Option(
        "--peer",
        metavar="NAME",
        autocompletion=completion.ends,
        help="Only the cable to this peer: cluster, hostname or address; may be repeated."
        " [default: all peers]",
    ),
]


class ReportFormat(StrEnum):
    """The formats of a report."""

    TABLE = "table"
    JSON = "json"


class OutcomeFormat(StrEnum):
    """The formats of the outcome of a command that changes the host."""

    TEXT = "text"
    JSON = "json"


Format = Annotated[ReportFormat, typer.Option(help="How to print it.")]


Outcome = Annotated[OutcomeFormat, typer.Option("--format", help="How to print the outcome.")]


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Print the whole sequence as a script; change nothing.")
]


def seconds_to_wait(what: str) -> Any:  # noqa: ANN401 - what typer.Option returns
    """Return the option --timeout, for what a command waits for."""
    return typer.Option(
        parser=number(int, "a whole number of seconds", 1, DAY),
        metavar="S",
        help=f"Seconds to wait for {what}, and for another cablectl to end, 1 to {DAY}.",
    )
