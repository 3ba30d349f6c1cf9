"""Prints reports as JSON: one function for results and errors, with the envelope around them.

The envelope is imported where it is used: it costs 3 ms that a command without JSON doesn't need.
"""

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from msgspec import UNSET, Struct

from cablectl.cli import streams
from cablectl.errors import CablectlError

if TYPE_CHECKING:
    from cablectl.render.envelope import Envelope, Kind


class JsonWish(NamedTuple):
    """The report that a command line asks for as JSON: of many lines, or in one line."""

    kind: "Kind"
    one_line: bool


def json_wish(arguments: Sequence[str]) -> JsonWish | None:
    """Return what a command line asks for as JSON, or None.

    The words are enough, so that an error of the command line itself is JSON too.
    """
    from cablectl.render.envelope import KINDS

    words = list(arguments)
    if "--" in words:
        words = words[: words.index("--")]
    command = next((word for word in words if not word.startswith("-")), "")
    kind = next((kind for kind in KINDS if kind == command), None)
    formats = [
        value if word == "--format" else word.removeprefix("--format=")
        for word, value in zip(words, [*words[1:], ""], strict=False)
        if word == "--format" or word.startswith("--format=")
    ]
    if kind is None or formats[-1:] != ["json"]:
        return None
    return JsonWish(kind, one_line="--watch" in words)


def of_result(kind: "Kind", result: Struct) -> "Envelope[Struct]":
    """Return the envelope of a result."""
    from cablectl.render.envelope import Envelope

    return Envelope(kind=kind, host=os.uname().nodename, result=result)


def of_error(kind: "Kind", error: CablectlError) -> "Envelope[Struct]":
    """Return the envelope of an error."""
    from cablectl.render.envelope import Envelope, error_report

    return Envelope(kind=kind, host=os.uname().nodename, error=error_report(error))


def show(envelope: "Envelope[Struct]", *, one_line: bool = False) -> None:
    """Print an envelope on stdout; a reader that has left doesn't change the exit code."""
    from cablectl.render.envelope import as_json, as_json_line

    text = as_json_line(envelope) if one_line else as_json(envelope)
    try:
        print(text, flush=True)
    except BrokenPipeError:
        if envelope.error is UNSET:
            raise
        streams.abandon_output()
