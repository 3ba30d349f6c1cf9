"""Shows a plan, or runs it and prints the outcome."""

import sys
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, assert_never

import typer
from msgspec.structs import replace

from cablectl.cli import reporting
from cablectl.cli.options import OutcomeFormat
from cablectl.cli.source import Chosen
from cablectl.errors import (
    CablectlError,
    ClientAwayError,
    HostNotReadyError,
    TimeLimitError,
    UsageError,
)
from cablectl.facts.host_facts import Facts, StalePeer, connected
from cablectl.host import privilege, reading, rotation_state
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable
from cablectl.plan import rotate_plan
from cablectl.plan.steps import Action, Outcome, Plan
from cablectl.render import plans, text

if TYPE_CHECKING:
    from cablectl.render.envelope import Kind


def dry_facts(chosen: Chosen, action: Action, release: Version | None = None) -> tuple[Facts, ...]:
    """Return the facts of a host that has nothing (connect) or all (teardown) of the cables."""
    facts = reading.dry_facts_of(chosen.cables, release)
    if action is Action.CONNECT:
        return facts
    others = tuple(
        StalePeer(id=cable.id, gateway=str(cable.remote_host)) for cable in chosen.others
    )
    return tuple(
        connected(cable, cable_facts, cable_facts.path_mtu, stale_peers=others)
        for cable, cable_facts in zip(chosen.cables, facts, strict=True)
    )


def show(plan: Plan) -> None:
    """Print a plan as a script."""
    warn(plan)
    sys.stdout.write(plans.as_script(plan))


def warn(plan: Plan) -> None:
    """Print the plan's warnings on stderr."""
    for line in plans.as_warnings(plan):
        print(line, file=sys.stderr)


def refuse_json_of_a_dry_run(format: OutcomeFormat, *, dry_run: bool) -> None:  # noqa: A002
    """Raise a UsageError for --dry-run with --format json: `plan` prints that JSON."""
    if dry_run and format is OutcomeFormat.JSON:
        raise UsageError(
            "--format json doesn't go with --dry-run, which prints a script",
            hint="cablectl plan FILE --dry-run --format json",
        )


def apply(
    chosen: Chosen,
    make_plan: Callable[[], Plan],
    wait: float,
    format: OutcomeFormat,  # noqa: A002
    of_detours: Callable[[tuple[Cable, ...], tuple[Facts, ...]], Plan] = rotate_plan.made,
    *,
    prove: bool = False,
) -> None:
    """Run a plan, with progress on stderr and the outcome on stdout.

    `wait` and `of_detours` are as in `run`. If asked to `prove` it, each peer has to answer an echo
    in what is left of `wait`.
    """
    begin = time.monotonic()
    outcome = run(chosen, make_plan, wait, of_detours)
    if prove:
        outcome = _proven(outcome, wait - (time.monotonic() - begin))
    match format:
        case OutcomeFormat.TEXT:
            if summary := plans.as_summary(outcome):
                print(summary)
            refuse_failed(outcome)
        case OutcomeFormat.JSON:
            _print_as_json(outcome)
        case _:
            assert_never(format)


def run(
    chosen: Chosen,
    make_plan: Callable[[], Plan],
    wait: float,
    of_detours: Callable[[tuple[Cable, ...], tuple[Facts, ...]], Plan] = rotate_plan.made,
) -> Outcome:
    """Run a plan, with progress on stderr; return the outcome.

    `wait` is the time in seconds that another cablectl which works on these cables has to end.
    While a rotation is under way, the plan `of_detours` is run first, for the cables' detours.
    """
    privilege.refuse_others_than_root()
    from cablectl.render.progress import progress_on
    from cablectl.run import execute  # its library, sh, costs 35 ms that no dry run needs

    progress = progress_on(sys.stderr)
    try:
        locks = {cable.bundle for cable in chosen.cables}
        if detours := rotation_state.detours((*chosen.cables, *chosen.others), chosen.cables):
            execute.apply(
                locks | {detour.bundle for detour in detours},
                lambda: of_detours(detours, reading.facts_of(detours)),
                progress,
                wait,
            )
        return execute.apply(locks, make_plan, progress, wait)
    finally:
        progress.close()


def _proven(outcome: Outcome, seconds: float) -> Outcome:
    """Return the outcome with the errors of the cables whose peers answer no echo."""
    from cablectl.render.progress import progress_on
    from cablectl.run import answers

    progress = progress_on(sys.stderr)
    up = [cable for cable in outcome.plan.cables if cable.id not in outcome.failed]
    try:
        silent = answers.silent(up, max(seconds, answers.LEAST), progress.echoing)
    except HostNotReadyError as error:  # in a sandbox without CAP_NET_RAW
        progress.note(f"no echo is sent through the cable: {error.message}")
        return outcome
    finally:
        progress.close()
    return replace(outcome, failed={**outcome.failed, **silent})


def _print_as_json(outcome: Outcome) -> None:
    """Print what came of each cable; the error of several cables is on stderr alone."""
    from cablectl.render.outcome_report import outcome_report

    connecting = outcome.plan.action is Action.CONNECT
    kind: Kind = "connect" if connecting else "teardown"
    reporting.show(reporting.of_result(kind, outcome_report(outcome)))
    try:
        refuse_failed(outcome)
    except CablectlError as error:
        print(text.as_error(error, sys.stderr), file=sys.stderr)
        raise typer.Exit(error.exit_code) from None


def refuse_failed(outcome: Outcome) -> None:
    """Raise one error for all cables that failed.

    TimeLimitError if every one ran out of time, ClientAwayError if every one waits for its client.
    """
    failed = {**outcome.plan.refused, **outcome.failed}
    count = len({cable.id for cable in outcome.plan.cables} | failed.keys())
    refuse_all(failed, count, ("waits for its client", "wait for their clients"))


def refuse_all(
    failed: Mapping[str, CablectlError],
    count: int,
    away: tuple[str, str] = ("waits for its peer", "wait for their peers"),
) -> None:
    """Raise one error for all cables, by id, that failed out of `count`.

    `away` has the words for one cable and for several whose other end is awaited.
    """
    if not failed:
        return
    if count == 1:
        raise next(iter(failed.values()))
    kinds = (ClientAwayError, TimeLimitError, CablectlError)
    kind = next(k for k in kinds if all(isinstance(error, k) for error in failed.values()))
    lines = [
        line
        for cable, error in failed.items()
        for line in (f"{cable}: {error.message}", *(f"  {detail}" for detail in error.details))
    ]
    hint = next((error.hint for error in failed.values() if error.hint), "")
    what = "failed"
    if kind is ClientAwayError:
        what = away[0] if len(failed) == 1 else away[1]
    raise kind(f"{len(failed)} of {count} cables {what}", details=lines, hint=hint)
