"""Shows a plan, or runs it and says what came of it."""

import sys
from collections.abc import Callable

from cablectl.cli.source import Chosen
from cablectl.errors import CablectlError, TimeLimitError
from cablectl.facts.host_facts import Facts, StalePeer, connected
from cablectl.host import privilege, reading
from cablectl.libreswan.dialects import Version
from cablectl.plan.steps import Action, Outcome, Plan
from cablectl.render import plans


def dry_facts(these: Chosen, action: Action, release: Version | None = None) -> tuple[Facts, ...]:
    """Return the facts of a host that has nothing (connect) or all (teardown) of the cables."""
    facts = reading.dry_facts_of(these.cables, release)
    if action is Action.CONNECT:
        return facts
    others = tuple(StalePeer(id=each.id, gateway=str(each.remote_host)) for each in these.others)
    return tuple(
        connected(cable, its, its.path_mtu, strays=others)
        for cable, its in zip(these.cables, facts, strict=True)
    )


def show(plan: Plan) -> None:
    """Print a plan as a script."""
    warn(plan)
    sys.stdout.write(plans.as_script(plan))


def warn(plan: Plan) -> None:
    """Say on stderr what a person should know before they run it."""
    for line in plans.as_warnings(plan):
        print(line, file=sys.stderr)


def apply(these: Chosen, make_plan: Callable[[], Plan], wait: float) -> None:
    """Run a plan, with progress on stderr and the outcome on stdout.

    `wait` is how many seconds another cablectl at work on the cables has to end.
    """
    privilege.refuse_others_than_root()
    from cablectl.render.progress import progress_on
    from cablectl.run import execute  # its library, sh, costs 35 ms that no dry run needs

    progress = progress_on(sys.stderr)
    try:
        outcome = execute.apply(these.cables[0].bundle, make_plan, progress, wait)
    finally:
        progress.close()
    if told := plans.as_summary(outcome):
        print(told)
    refuse_failed(outcome)


def refuse_failed(outcome: Outcome) -> None:
    """Raise one error for the cables that failed, if any did; TimeLimitError if by time alone."""
    failed = {**outcome.plan.refused, **outcome.failed}
    if not failed:
        return
    kind = CablectlError
    if all(isinstance(each, TimeLimitError) for each in failed.values()):
        kind = TimeLimitError
    count = len({each.id for each in outcome.plan.cables} | failed.keys())
    lines = [
        line
        for name, each in failed.items()
        for line in (f"{name}: {each.message}", *(f"  {detail}" for detail in each.details))
    ]
    hint = next((each.hint for each in failed.values() if each.hint), "")
    raise kind(f"{len(failed)} of {count} cables failed", details=lines, hint=hint)
