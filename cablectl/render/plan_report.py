"""The plan as a report: what `cablectl plan --format json` prints as its result."""

from typing import Annotated

from msgspec import Meta, Struct

from cablectl.model.argv import Argv
from cablectl.model.wishes import Mode, OverlayKind
from cablectl.plan.steps import Action, Change, Phase, Plan, Step
from cablectl.render.plans import assumed

PhaseLabel = Annotated[str, Meta(pattern=f"^({'|'.join(phase.label for phase in Phase)})$")]


class PlannedCable(Struct, frozen=True, kw_only=True):
    """A cable of the plan, and the address of its other end."""

    cable: str
    remote: str
    address: str


class RefusedCable(Struct, frozen=True, kw_only=True):
    """A cable that has no steps, and why."""

    cable: str
    error: str


class PlannedStep(Struct, frozen=True, kw_only=True):
    """A command. `cable` is null if the command serves all cables of the plan."""

    phase: PhaseLabel
    cable: str | None
    argv: Argv
    change: Change
    why: str
    undo: tuple[Argv, ...]
    needed: bool
    reason: str | None


class PlanReport(Struct, frozen=True, kw_only=True):
    """The commands of a plan, in order; `cable` and `remote` are null if it has several cables."""

    action: Action
    cable: str | None
    local: str
    remote: str | None
    mode: Mode
    overlay: OverlayKind | None
    libreswan: str | None
    assumed: tuple[str, ...]
    warnings: tuple[str, ...]
    cables: tuple[PlannedCable, ...]
    refused: tuple[RefusedCable, ...]
    steps: tuple[PlannedStep, ...]


def plan_report(plan: Plan) -> PlanReport:
    """Return the report of a plan."""
    first, facts = plan.cables[0], plan.facts[0]
    only = first if len(plan.cables) == 1 else None
    return PlanReport(
        action=plan.action,
        cable=only.id if only else None,
        local=first.local.cluster,
        remote=only.remote.cluster if only else None,
        mode=first.mode,
        overlay=first.overlay.kind if first.overlay else None,
        libreswan=str(facts.libreswan) if first.connections else None,
        assumed=assumed(plan),
        warnings=plan.warnings,
        cables=tuple(
            PlannedCable(
                cable=cable.id, remote=cable.remote.cluster, address=str(cable.remote_host)
            )
            for cable in plan.cables
        ),
        refused=tuple(
            RefusedCable(cable=cable, error=error.message) for cable, error in plan.refused.items()
        ),
        steps=tuple(map(_planned, plan.steps)),
    )


def _planned(step: Step) -> PlannedStep:
    return PlannedStep(
        phase=step.phase.label,
        cable=step.cable or None,
        argv=step.argv,
        change=step.change,
        why=step.why,
        undo=step.undo,
        needed=not step.not_needed,
        reason=step.not_needed or None,
    )
