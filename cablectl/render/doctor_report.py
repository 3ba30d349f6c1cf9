"""Findings as a report: what `cablectl doctor --format json` prints as its result."""

from msgspec import Struct

from cablectl.doctor.finding import Finding, FindingState, counts


class FindingCounts(Struct, frozen=True, kw_only=True):
    """How many findings have each state."""

    fail: int
    warn: int
    ok: int


class FindingReport(Struct, frozen=True, kw_only=True):
    """What a check found; `fix` is null if all is fine."""

    check: str
    state: FindingState
    evidence: str
    fix: str | None


class DoctorReport(Struct, frozen=True, kw_only=True):
    """The findings of a cable, or of the host alone if `cable` is null."""

    cable: str | None
    counts: FindingCounts
    findings: tuple[FindingReport, ...]


def doctor_report(findings: tuple[Finding, ...], subject: str) -> DoctorReport:
    """Return the report of findings about a subject, such as `cluster1 to cluster2`."""
    number = counts(findings)
    return DoctorReport(
        cable=subject or None,
        counts=FindingCounts(
            fail=number[FindingState.FAIL],
            warn=number[FindingState.WARN],
            ok=number[FindingState.OK],
        ),
        findings=tuple(
            FindingReport(
                check=finding.check,
                state=finding.state,
                evidence=finding.evidence,
                fix=finding.fix or None,
            )
            for finding in findings
        ),
    )
