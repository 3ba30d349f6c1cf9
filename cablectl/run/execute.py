"""Runs a plan, and nothing else changes the host: order, time limits, undo, and proof.

Commands run through `sh`. What a plan did is proven by planning again: a connect or teardown that
leaves something to do has failed. Of several cables each has its own fate.
"""

import shlex
import signal
from collections.abc import Callable, Iterable

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.plan.calls import Call, calls
from cablectl.plan.steps import Action, Outcome, Phase, Plan, Step
from cablectl.run.command import run
from cablectl.run.journal import held
from cablectl.run.runner import Progress, Runner
from cablectl.run.signals import deferred, handled, leave

__all__ = ["Progress", "apply", "run"]

MakePlan = Callable[[], Plan]
Failed = dict[str, CablectlError]  # by the cable's id


def apply(lock: str, make_plan: MakePlan, progress: Progress, wait: float) -> Outcome:
    """Read the host, run what is needed, see that nothing is left to do; return what came of it.

    connect undoes everything at the first failure; of several cables that of the cable, if the
    failure is its own, and the others go on. teardown finishes the phase and begins no other, for
    the cable that failed: while the device is there, its policies stay. CablectlError, with the
    command and its output; TimeLimitError if somebody else is at work on the cables for longer than
    `wait` seconds.
    """
    with handled(leave), held(lock, wait, progress.note) as journal:
        if journal.left:
            progress.note(f"an earlier {journal.left.cut_off}; going on from what is there")
        plan = make_plan()
        progress.begin(plan)
        failed = dict(plan.refused)
        runner = Runner(plan, progress, journal)
        try:
            if plan.needed and plan.action is Action.TEARDOWN:
                _Teardown(plan, runner, failed).run(make_plan)
            elif plan.needed:
                _Connect(plan, runner, failed, progress).run(make_plan)
        except BaseException:
            if plan.action is Action.CONNECT and runner.clean:
                journal.end()
            raise
        finally:
            runner.close()
        if runner.clean:
            journal.end()
    return Outcome(plan, failed)


class _Connect:
    """All or nothing of a cable; what several share goes if it is new and none of them stands."""

    def __init__(self, plan: Plan, runner: Runner, failed: Failed, progress: Progress) -> None:
        self._plan, self._runner, self._failed, self._progress = plan, runner, failed, progress
        self._cables = {cable.id: cable for cable in plan.cables}
        self._done: list[Step] = []  # what is to undo, also if it is only begun

    def run(self, make_plan: MakePlan) -> None:
        """Run what is needed; note in `failed` what befell one cable of several."""
        try:
            for call in calls(self._plan):
                self._do(call)
            if self._stands:
                self._prove(make_plan())
        except BaseException:
            self._take_all_back()
            raise
        if not self._stands:
            self._take_all_back()

    def _take_all_back(self) -> None:
        with handled(signal.SIG_IGN):  # every command has its time limit
            self._runner.take_back(self._done)

    @property
    def _stands(self) -> bool:
        return not self._cables.keys() <= self._failed.keys()

    def _do(self, call: Call) -> None:
        steps = tuple(step for step in call.steps if step.cable not in self._failed)
        if not steps or not self._stands:
            return
        self._runner.begin(steps)
        try:
            failures = self._runner.do(Call(call.kind, steps))
        except BaseException:
            self._done += steps
            raise
        for place, step in enumerate(steps):
            if isinstance(failures.get(place), TimeLimitError | None):  # else it may be done
                self._done.append(step)
        for place, error in failures.items():
            self._fail(steps[place].cable, error)

    def _fail(self, cable: str, error: CablectlError) -> None:
        """Undo one cable of several; without one, or of a single one, it is everybody's failure."""
        if not cable or len(self._cables) == 1:
            raise error
        if cable in self._failed:
            return
        self._failed[cable] = error
        self._progress.failed(cable, error)
        own = [step for step in self._done if step.cable == cable]
        self._done = [step for step in self._done if step.cable != cable]
        with deferred(leave):
            self._runner.take_back(own, self._cables.get(cable))

    def _prove(self, again: Plan) -> None:
        for cable, error in again.refused.items():
            self._fail(cable, error)
        # Whether what was initiated came up is for the waits to say, if there are any.
        left = [step for step in again.needed if step.phase is not Phase.INITIATE]
        for cable, error in _still_to_do(left, self._plan, self._failed).items():
            self._fail(cable, error)


class _Teardown:
    """A phase of a cable begins when the one before succeeded; a shared one after all cables'."""

    def __init__(self, plan: Plan, runner: Runner, failed: Failed) -> None:
        self._plan, self._runner, self._failed = plan, runner, failed
        self._failed_in: dict[str, Phase] = {}

    def run(self, make_plan: MakePlan) -> None:
        """Run what is needed; note in `failed` what befell one cable of several."""
        for call in calls(self._plan):
            steps = tuple(step for step in call.steps if self._may(step))
            if not steps:
                continue
            self._runner.begin(steps)
            for place, error in self._runner.do(Call(call.kind, steps)).items():
                self._fail(steps[place].cable, error, steps[place].phase)
        self._raise()
        left = _still_to_do(make_plan().needed, self._plan, self._failed)
        for cable, error in left.items():
            self._fail(cable, error, Phase.UNGUARD)
        self._raise()

    def _may(self, step: Step) -> bool:
        alone = not step.cable or len(self._plan.cables) == 1
        of = self._failed_in if alone else ("", step.cable)
        return all(self._failed_in.get(each, step.phase) is step.phase for each in of)

    def _fail(self, cable: str, error: CablectlError, phase: Phase) -> None:
        self._failed_in.setdefault(cable, phase)
        self._failed.setdefault(cable, error)

    def _raise(self) -> None:
        """Raise what isn't the failure of one cable of several."""
        if self._failed and ("" in self._failed or len(self._plan.cables) == 1):
            raise self._failed.get("", next(iter(self._failed.values())))


def _still_to_do(steps: Iterable[Step], plan: Plan, failed: Failed) -> Failed:
    """Return what a second plan finds, by cable; what failed cables leave undone is known.

    Of what all share that is another reading of the secrets, and the guard.
    """
    known = (Phase.SECRET, Phase.FORGET, Phase.UNGUARD) if failed else ()
    left: dict[str, list[Step]] = {}
    for step in steps:
        if step.cable not in failed and (step.cable or step.phase not in known):
            left.setdefault(step.cable if len(plan.cables) > 1 else "", []).append(step)
    return {
        cable: CablectlError(
            "every command succeeded, and yet this is still to do",
            details=[f"{step.phase.label}: {shlex.join(step.argv)}" for step in its],
        )
        for cable, its in left.items()
    }
