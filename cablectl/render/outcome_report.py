"""The outcome of a plan as a report: what `cablectl connect --format json` prints as its result."""

from msgspec import Struct

from cablectl.plan.steps import Outcome
from cablectl.render.envelope import ErrorReport, error_report


class CableOutcome(Struct, frozen=True, kw_only=True):
    """One cable; `error` is null if the cable is as planned."""

    cable: str
    error: ErrorReport | None


class OutcomeReport(Struct, frozen=True, kw_only=True):
    """Whether any command was run, and what came of each cable."""

    changed: bool
    cables: tuple[CableOutcome, ...]


def outcome_report(outcome: Outcome) -> OutcomeReport:
    """Return the report of a plan that was run."""
    failed = {**outcome.plan.refused, **outcome.failed}
    names = dict.fromkeys([*(cable.id for cable in outcome.plan.cables), *failed])
    return OutcomeReport(
        changed=bool(outcome.plan.needed),
        cables=tuple(
            CableOutcome(cable=name, error=error_report(failed[name]) if name in failed else None)
            for name in names
        ),
    )
