"""The result of a check: one line of evidence and, unless all is well, one line that fixes it."""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class FindingState(StrEnum):
    """ok: all is well; warn: worth knowing, or a possible cause; fail: a cause."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """The result of one check; `fix` is empty if the state is ok."""

    check: str
    state: FindingState
    evidence: str
    fix: str = ""


def ok(check: str, evidence: str) -> Finding:
    """Return a finding of the state ok."""
    return Finding(check, FindingState.OK, evidence)


def warn(check: str, evidence: str, fix: str) -> Finding:
    """Return a finding that a person should know, or that may be a cause."""
    return Finding(check, FindingState.WARN, evidence, fix)


def fail(check: str, evidence: str, fix: str) -> Finding:
    """Return a finding that keeps a cable from working."""
    return Finding(check, FindingState.FAIL, evidence, fix)


def counts(findings: Iterable[Finding]) -> dict[FindingState, int]:
    """Return the number of findings by state, the worst state first."""
    states = [finding.state for finding in findings]
    return {
        state: states.count(state)
        for state in (FindingState.FAIL, FindingState.WARN, FindingState.OK)
    }
