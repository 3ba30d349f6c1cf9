"""`cablectl init`: a first file, from options or from answers."""

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
from cablectl.model.names import Name
from cablectl.model.wishes import Address, Mode, OverlayKind, Subnet
from cablectl.render.text import printable

if TYPE_CHECKING:
    from cablectl.render.draft import Given

NEEDED = 2  # endpoints
FORM = "CLUSTER=ADDRESS[,SUBNET...]"
EXAMPLE = "--endpoint east=172.18.0.8,10.44.0.0/16 --endpoint west=172.18.0.7,10.45.0.0/16"


def init(
    file: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", help="Output file; must not exist. [default: stdout]"),
    ] = None,
    mode: Annotated[
        Mode | None, typer.Option(help="How IPsec carries the traffic. [default: transport]")
    ] = None,
    overlay: Annotated[
        OverlayKind | None,
        typer.Option(help="The overlay that IPsec protects. [default: vxlan; none in mode tunnel]"),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            metavar=FORM, help="A gateway and its cluster's subnets; repeat it for each gateway."
        ),
    ] = None,
) -> None:
    """Write a first file.

    The values come from options, or from your answers on a terminal. The file is checked before it
    is written. Its comments name further settings.
    """
    to_file = file not in (None, "-")
    if to_file:
        files.must_be_new(str(file))
    given = [_endpoint(text) for text in endpoint or ()]
    if len(given) >= NEEDED:
        text = _draft(mode or Mode.TRANSPORT, overlay, given)
    elif sys.stdin.isatty() and sys.stderr.isatty():
        text = _ask_for_all(mode, overlay, given)
    else:
        missing = "a second --endpoint" if given else "--endpoint, twice"
        raise UsageError(f"missing: {missing}; there is no terminal to ask on", hint=EXAMPLE)
    if to_file:
        files.write(str(file), text)
        source.notes(
            [f"{file} is written; its commands: cablectl plan {file} --dry-run --local NAME"]
        )
    else:
        sys.stdout.write(text)


def _endpoint(text: str) -> "Given":
    """Return the endpoint of an option's value; UsageError if the value is wrong."""
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
    """Return the text of the file; UsageError with all problems of the values."""
    from cablectl.render.draft import as_draft

    if overlay is None:
        overlay = OverlayKind.NONE if mode is Mode.TUNNEL else OverlayKind.VXLAN
    text = as_draft(mode, overlay, given)
    try:
        native.parse(text, "draft")
    except UsageError as error:  # without the lines of a file that nobody can see
        first, *others = (problem.split(": ", 1)[1] for problem in (error.message, *error.details))
        raise UsageError(first, details=others) from None
    return text


def _ask_for_all(mode: Mode | None, overlay: OverlayKind | None, given: "list[Given]") -> str:
    """Ask for what the options lack, and for the gateways again if they contradict each other."""
    if mode is None:
        mode = Mode(_choose("Mode", Mode, Mode.TRANSPORT))
    if overlay is None and mode is not Mode.NONE:
        usual = OverlayKind.NONE if mode is Mode.TUNNEL else OverlayKind.VXLAN
        overlay = OverlayKind(_choose("Overlay", OverlayKind, usual))
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
            if not all(problem.startswith("endpoints[") for problem in problems):
                raise
            _say(*problems, "Let's go through them again; Enter keeps your answer.")


def _ask_for_one(number: int, before: "list[Given]") -> "Given":
    """Ask for an endpoint; earlier answers are the defaults."""
    from cablectl.render.draft import Given

    _say(f"Gateway {number} of {NEEDED}")
    default = before[0] if before else Given(f"cluster{number}", "")
    cluster = _ask("  cluster", default.cluster, lambda text: check(Name, text))
    address = _ask("  address", default.address, lambda text: check(Address, text))
    subnets = _ask(
        "  subnets of its cluster, separated by commas; - for none",
        ",".join(default.subnets) or "-",
        lambda text: _check_subnets(_listed(text)),
    )
    return Given(cluster, address, _listed(subnets))


def _listed(text: str) -> tuple[str, ...]:
    return () if text == "-" else tuple(subnet.strip() for subnet in text.split(","))


def _check_subnets(subnets: Iterable[str]) -> None:
    for subnet in subnets:
        check(Subnet, subnet)


def _choose(question: str, kind: type[StrEnum], default: StrEnum) -> str:
    return _ask(f"{question} ({', '.join(kind)})", default, lambda text: check(kind, text))


def _ask(question: str, default: str, refuse: Callable[[str], None]) -> str:
    """Return the first answer for which `refuse` raises no UsageError; Enter is the default.

    The question is on stderr, since stdout may be the file.
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
    print(*map(printable, lines), sep="\n", file=sys.stderr)
