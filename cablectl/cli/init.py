"""`cablectl init`: a file to begin with."""

import sys
from collections.abc import Callable, Iterable
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from cablectl.cli import source
from cablectl.config import native
from cablectl.config.reader import check
from cablectl.errors import UsageError
from cablectl.host import files
from cablectl.model.wishes import Address, Mode, Name, OverlayKind, Subnet

if TYPE_CHECKING:
    from cablectl.render.draft import Given

NEEDED = 2  # endpoints
FORM = "CLUSTER=ADDRESS[,SUBNET...]"
EXAMPLE = "--endpoint east=172.18.0.8,10.44.0.0/16 --endpoint west=172.18.0.7,10.45.0.0/16"


def init(
    file: Annotated[
        str | None,
        typer.Argument(
            metavar="[FILE]", help="Where to write it, never over another. [default: stdout]"
        ),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="How IPsec carries the traffic. [default: transport]")
    ] = None,
    overlay: Annotated[
        OverlayKind | None,
        typer.Option(help="What travels in it. [default: vxlan, but none in mode tunnel]"),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(metavar=FORM, help="A gateway and its cluster's subnets; once for each end."),
    ] = None,
) -> None:
    """Write a file to begin with.

    From options, or from your answers on a terminal. It is checked before it is written, and its
    comments say what else there is.
    """
    to_file = file not in (None, "-")
    if to_file:
        files.must_be_new(str(file))
    given = [_endpoint(each) for each in endpoint or ()]
    if len(given) >= NEEDED:
        text = _draft(mode or Mode.TRANSPORT, overlay, given)
    elif sys.stdin.isatty() and sys.stderr.isatty():
        text = _ask_for_all(mode, overlay, given)
    else:
        missing = "a second --endpoint" if given else "--endpoint, twice"
        raise UsageError(f"missing: {missing}; this is no terminal to ask on", hint=EXAMPLE)
    if to_file:
        files.write(str(file), text)
        source.notes(
            [f"{file} is written; see its commands: cablectl plan {file} --dry-run --local NAME"]
        )
    else:
        sys.stdout.write(text)


def _endpoint(text: str) -> "Given":
    """Return the endpoint that an option gives; UsageError if it is none."""
    from cablectl.render.draft import Given

    cluster, found, rest = text.partition("=")
    address, *subnets = rest.split(",")
    if not found:
        raise UsageError(f"--endpoint {text}: allowed: {FORM}", hint=EXAMPLE)
    try:
        check(Name, cluster)
        check(Address, address)
        _check_subnets(subnets)
    except UsageError as error:
        raise UsageError(f"--endpoint {text}: {error.message}") from None
    return Given(cluster, address, tuple(subnets))


def _draft(mode: Mode, overlay: OverlayKind | None, given: "list[Given]") -> str:
    """Return the file; UsageError with all that is wrong with it."""
    from cablectl.render.draft import as_draft

    if overlay is None:
        overlay = OverlayKind.NONE if mode is Mode.TUNNEL else OverlayKind.VXLAN
    text = as_draft(mode, overlay, given)
    try:
        native.parse(text, "draft")
    except UsageError as error:  # whose lines are those of a file that isn't there
        first, *others = (each.split(": ", 1)[1] for each in (error.message, *error.details))
        raise UsageError(first, details=others) from None
    return text


def _ask_for_all(mode: Mode | None, overlay: OverlayKind | None, given: "list[Given]") -> str:
    """Ask for what wasn't given, and for the ends again if they don't go together."""
    if mode is None:
        mode = Mode(_choose("Mode", Mode, Mode.TRANSPORT))
    if overlay is None and mode is Mode.TRANSPORT:
        overlay = OverlayKind(_choose("Overlay", OverlayKind, OverlayKind.VXLAN))
    ends = given
    while True:
        ends = given + [
            _ask_for_one(number, ends[number - 1 : number])
            for number in range(len(given) + 1, NEEDED + 1)
        ]
        try:
            return _draft(mode, overlay, ends)
        except UsageError as error:
            problems = (error.message, *error.details)
            if not all(each.startswith("endpoints[") for each in problems):
                raise
            _say(*problems, "Again; an empty line is the answer you gave.")


def _ask_for_one(number: int, before: "list[Given]") -> "Given":
    """Ask for an endpoint; the defaults are the answers from before, if there are any."""
    from cablectl.render.draft import Given

    _say(f"Gateway {number} of {NEEDED}")
    was = before[0] if before else Given(f"cluster{number}", "")
    cluster = _ask("  cluster", was.cluster, lambda text: check(Name, text))
    address = _ask("  address", was.address, lambda text: check(Address, text))
    subnets = _ask(
        "  its cluster's subnets, with commas; - for none",
        ",".join(was.subnets) or "-",
        lambda text: _check_subnets(_listed(text)),
    )
    return Given(cluster, address, _listed(subnets))


def _listed(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(each.strip() for each in text.split(","))


def _check_subnets(subnets: Iterable[str]) -> None:
    for each in subnets:
        check(Subnet, each)


def _choose(question: str, kind: type[StrEnum], default: StrEnum) -> str:
    return _ask(f"{question} ({', '.join(kind)})", default, lambda text: check(kind, text))


def _ask(question: str, default: str, refuse: Callable[[str], None]) -> str:
    """Return an answer that isn't refused with a UsageError; the default for an empty line.

    On stderr, since stdout may be the file.
    """
    while True:
        shown = f"{question} [{default}]: " if default else f"{question}: "
        print(shown, end="", file=sys.stderr, flush=True)
        try:
            line = sys.stdin.readline()
        except ValueError:
            raise UsageError("the answer is not text in UTF-8") from None
        if not line:
            raise UsageError("no answer, so nothing was written")
        try:
            refuse(answer := line.strip() or default)
        except UsageError as error:
            _say(f"  {error.message}")
        else:
            return answer


def _say(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr)
