"""The JSON envelope of every report: a kind, a host, and either a result or an error."""

import re
from typing import Generic, Literal, TypeVar, get_args

from msgspec import UNSET, Struct, UnsetType, json, to_builtins

from cablectl.errors import CablectlError

JSON_VERSION: Literal[1] = 1
Result = TypeVar("Result", bound=Struct)


# An escaped backslash, a pair of surrogates, and one alone: a byte of a file name that isn't UTF-8.
_SURROGATES = r"\\\\|\\ud[89ab]\w\w\\ud[c-f]\w\w|(\\ud[89a-f]\w\w)"


# The command that made a report.
Kind = Literal[
    "plan", "connect", "teardown", "rotate", "status", "verify", "doctor", "offload", "import", "ca"
]
KINDS: tuple[Kind, ...] = get_args(Kind)


class ErrorReport(Struct, frozen=True, kw_only=True):
    """Why a command failed: the texts that standard error has as well, and the exit code."""

    message: str
    hint: str | None
    details: tuple[str, ...]
    exit_code: int


class Envelope(Struct, Generic[Result], frozen=True, kw_only=True):
    """What a command reports. `host` is the name of the host that it ran on.

    Exactly one of `result` and `error` is set; the JSON leaves the other out.
    """

    version: Literal[1] = JSON_VERSION
    kind: Kind
    host: str
    result: Result | UnsetType = UNSET
    error: ErrorReport | UnsetType = UNSET


def error_report(error: CablectlError) -> ErrorReport:
    """Return an error as a value."""
    return ErrorReport(
        message=error.message,
        hint=error.hint or None,
        details=error.details,
        exit_code=error.exit_code,
    )


def as_json(envelope: Envelope[Result]) -> str:
    """Return the envelope as JSON of many lines; docs/json.md describes it."""
    return json.format(as_json_line(envelope), indent=2)


def as_json_line(envelope: Envelope[Result]) -> str:
    """Return the envelope as JSON in one line, in ASCII."""
    from json import dumps  # unlike msgspec's, it takes a file name that isn't UTF-8

    text = dumps(to_builtins(envelope, str_keys=True), separators=(",", ":"))
    return re.sub(_SURROGATES, lambda found: r"\ufffd" if found[1] else found[0], text)
