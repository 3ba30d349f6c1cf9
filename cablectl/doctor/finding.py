"""What keeps a cable from coming up, by checks: each a function from evidence to findings.

A finding says what was seen in one line, and if it isn't fine, what to do about it in another.
Nothing here reads the host: `gather` does.
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct


class FindingState(StrEnum):
    """Fine; something to know, or that may be a cause; something that is one."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


class Finding(Struct, frozen=True):
    """What a check found: what was seen, and what to do about it, unless it is fine."""

    check: str
    state: FindingState
    evidence: str
    fix: str = ""


def ok(check: str, evidence: str) -> Finding:
    """Return a finding that all is fine."""
    return Finding(check, FindingState.OK, evidence)


def warn(check: str, evidence: str, fix: str) -> Finding:
    """Return a finding that a person should know, or that may be a cause."""
    return Finding(check, FindingState.WARN, evidence, fix)


def fail(check: str, evidence: str, fix: str) -> Finding:
    """Return a finding that keeps a cable from working."""
    return Finding(check, FindingState.FAIL, evidence, fix)


def counts(findings: Iterable[Finding]) -> dict[FindingState, int]:
    """Return how many findings there are of each state, the worst first."""
    states = [each.state for each in findings]
    return {
        state: states.count(state)
        for state in (FindingState.FAIL, FindingState.WARN, FindingState.OK)
    }
