"""Runs a plan, and nothing else changes the host: order, time limits, undo, and proof.

Commands run through `sh`. The proof is a second plan: a connect or teardown has failed if the
second plan still needs a step. One of several cables can fail while the others succeed.
"""

import shlex
import signal
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import suppress
from functools import partial

from cablectl.errors import CablectlError, ClientAwayError, TimeLimitError
from cablectl.facts import orientation
from cablectl.libreswan.refusal import is_unoriented
from cablectl.plan import ipsec
from cablectl.plan.calls import Call, Finish, calls, staged
from cablectl.plan.steps import Action, Outcome, Phase, Plan, Step
from cablectl.run import guard_hold
from cablectl.run.command import run
from cablectl.run.journal import held
from cablectl.run.runner import Progress, Runner
from cablectl.run.signals import deferred, handled, leave

__all__ = ["Progress", "apply", "run"]

MakePlan = Callable[[], Plan]
READ_TRIES = 3  # times that the host is read
AGAIN = 6  # times at most that connect goes on while its peer negotiates anew
Failed = dict[str, CablectlError]  # by the cable's id


def apply(locks: Collection[str], make_plan: MakePlan, progress: Progress, wait: float) -> Outcome:
    """Read the host, run the needed steps, check that no step is left; return the outcome.

    If a step fails, connect rolls back everything; if the step belongs to one of several cables, it
    rolls back that cable alone, and the others go on. A server whose client is away goes on, too,
    and the outcome has a ClientAwayError. If a step of teardown fails, its phase is finished for
    that cable, and no later phase begins: while the device is there, the policies stay. `locks` are
    the names of the locks to hold. CablectlError has the command and its output; TimeLimitError if
    another cablectl works on one of the cables for longer than `wait` seconds.
    """
    with handled(leave), held(locks, wait, progress.note) as journal:
        if earlier := journal.unfinished:
            progress.note(f"an earlier {earlier.cut_off}; continuing from the host's state")
        plan = _read_patiently(make_plan)
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
    """Runs connect: a cable succeeds or is rolled back, or it is a server's and waits.

    Steps that all cables share are rolled back if no cable succeeds or waits.
    """

    def __init__(self, plan: Plan, runner: Runner, failed: Failed, progress: Progress) -> None:
        self._plan, self._runner, self._failed, self._progress = plan, runner, failed, progress
        self._cables = {cable.id: cable for cable in plan.cables}
        self._facts = dict(zip(self._cables, plan.facts, strict=True))
        self._done: list[Step] = []  # the steps to undo, also those that only began
        self._away: Failed = {}  # what a server still waits for, its client

    def run(self, make_plan: MakePlan) -> None:
        """Run the needed steps; put the error of one of several cables into `failed`."""
        try:
            self._execute(self._plan)
            if self._any_succeeds:
                self._prove(self._executed_again(partial(_read_patiently, make_plan)))
        except BaseException:
            self._roll_back()
            raise
        if not self._any_succeeds:
            self._roll_back()
        for cable, error in self._away.items():
            self._failed.setdefault(cable, error)

    def _execute(self, plan: Plan) -> None:
        before, finish = staged(plan)
        for call in before:
            self._do(call)
        if finish:
            self._finish(finish)

    def _executed_again(self, make_plan: MakePlan) -> Plan:
        """Return a second plan; run it if the peer has just connected anew.

        Or if there are Child SAs that are too many, once these may go.
        """
        waited = any(self._needed(self._plan, Phase.WAIT))
        again = make_plan()
        # pluto may list these until the peer confirms.
        retired = {step.argv for step in self._needed(self._plan, Phase.RETIRE)}
        for _ in range(AGAIN):
            retire = {step.argv for step in self._needed(again, Phase.RETIRE)} - retired
            if retire or any(self._needed(again, Phase.WAIT)):
                retired |= retire
                self._runner.extend(again)
                self._execute(again)
            elif waited and (seconds := ipsec.until_settled(again.cables, again.facts, retired)):
                self._progress.note(
                    f"a Child SA too many; deleting it in {seconds:.0f} s, if the peer doesn't"
                )
                time.sleep(seconds)
            else:
                break
            again = make_plan()
        return again

    def _needed(self, plan: Plan, phase: Phase) -> Iterator[Step]:
        """Yield the steps of a phase that are needed for the cables that came up."""
        out = self._failed.keys() | self._away.keys()
        return (step for step in plan.needed if step.phase is phase and step.cable not in out)

    def _finish(self, finish: Finish) -> None:
        """Finish each cable as soon as its Child SAs stand: a silent peer holds up no other one."""
        self._runner.begin(finish.waits)
        self._done += finish.waits
        shared = True
        for ready, errors in self._runner.as_they_come(finish.waits):
            for cable, error in errors.items():
                self._fail(cable, error)
            # A server gets its overlay though its client is away.
            if now := (ready | errors.keys()) - self._failed.keys():
                for call in finish.calls(now, shared=shared):
                    self._do(call)
                shared = False
        for call in finish.last_calls():
            self._do(call)

    def _roll_back(self) -> None:
        with handled(signal.SIG_IGN):  # every command has its time limit
            self._runner.roll_back(self._done)

    @property
    def _any_succeeds(self) -> bool:
        return not self._cables.keys() <= self._failed.keys()

    def _do(self, call: Call) -> None:
        steps = tuple(step for step in call.steps if step.cable not in self._failed)
        if not steps or not self._any_succeeds:
            return
        self._runner.begin(steps)
        try:
            failures = self._runner.do(Call(call.kind, steps))
        except BaseException:
            self._done += steps
            raise
        for place, step in enumerate(steps):
            if isinstance(failures.get(place), TimeLimitError | None):  # a late command may be done
                self._done.append(step)
        for place, error in failures.items():
            cable = steps[place].cable
            self._fail(cable, self._explained(cable, error))

    def _explained(self, cable: str, error: CablectlError) -> CablectlError:
        """Return the cause if pluto refused a connection because it is unoriented."""
        if cable not in self._cables or not is_unoriented("\n".join(error.details)):
            return error
        return orientation.error(self._cables[cable], self._facts[cable], error.details)

    def _fail(self, cable: str, error: CablectlError) -> None:
        """Roll back one of several cables; raise an error that isn't about one of several."""
        if isinstance(error, ClientAwayError):
            self._away[cable] = error
            return
        if not cable or len(self._cables) == 1:
            raise error
        if cable in self._failed:
            return
        self._failed[cable] = error
        self._progress.failed(cable, error)
        own = [step for step in self._done if step.cable == cable]
        self._done = [step for step in self._done if step.cable != cable]
        with deferred(leave):
            self._runner.roll_back(own, self._cables.get(cable))

    def _prove(self, again: Plan) -> None:
        for cable, error in again.refused.items():
            self._fail(cable, error)
        for one, facts in zip(again.cables, again.facts, strict=True):
            if orientation.unoriented(one, facts):
                self._fail(one.id, orientation.error(one, facts))
        # Whether a negotiation succeeded is decided by the steps that wait, if there are any. pluto
        # may list a Child SA until the peer confirms the deletion.
        left = [
            step
            for step in again.needed
            if step.phase not in (Phase.INITIATE, Phase.RETIRE)
            and not (step.phase is Phase.WAIT and step.cable in self._away)
        ]
        for cable, error in _still_to_do(left, self._plan, self._failed).items():
            self._fail(cable, error)


def _read_patiently(make_plan: MakePlan) -> Plan:
    """Return a plan of the host as it is now, though pluto may be too busy to answer at once.

    It is where many cables start at the same moment. At the end, all that was done would be undone.
    """
    for _ in range(READ_TRIES - 1):
        with suppress(TimeLimitError):
            return make_plan()
    return make_plan()


class _Teardown:
    """Runs teardown: a phase begins if the phase before succeeded.

    A phase that all cables share begins if the phases before succeeded for all of them.
    """

    def __init__(self, plan: Plan, runner: Runner, failed: Failed) -> None:
        self._plan, self._runner, self._failed = plan, runner, failed
        self._failed_in: dict[str, Phase] = {}

    def run(self, make_plan: MakePlan) -> None:
        """Run the needed steps; put the error of one of several cables into `failed`."""
        with guard_hold.watched(cable.bundle for cable in self._plan.cables) as watched:
            self._run_steps()
            self._raise_shared()
            watched.await_end()
        left = _still_to_do(_read_patiently(make_plan).needed, self._plan, self._failed)
        for cable, error in left.items():
            self._fail(cable, error, Phase.UNGUARD)
        self._raise_shared()

    def _run_steps(self) -> None:
        for call in calls(self._plan):
            steps = tuple(step for step in call.steps if self._may_run(step))
            if not steps:
                continue
            self._runner.begin(steps)
            for place, error in self._runner.do(Call(call.kind, steps)).items():
                self._fail(steps[place].cable, error, steps[place].phase)

    def _may_run(self, step: Step) -> bool:
        alone = not step.cable or len(self._plan.cables) == 1
        cables = self._failed_in if alone else ("", step.cable)
        return all(self._failed_in.get(cable, step.phase) is step.phase for cable in cables)

    def _fail(self, cable: str, error: CablectlError, phase: Phase) -> None:
        self._failed_in.setdefault(cable, phase)
        self._failed.setdefault(cable, error)

    def _raise_shared(self) -> None:
        """Raise the error that isn't about one of several cables, if there is one."""
        if self._failed and ("" in self._failed or len(self._plan.cables) == 1):
            raise self._failed.get("", next(iter(self._failed.values())))


def _still_to_do(steps: Iterable[Step], plan: Plan, failed: Failed) -> Failed:
    """Return an error for each cable of which the second plan still needs steps.

    Failed cables aren't reported again. The shared steps that they keep from running are no error:
    another reading of the secrets, and the removal of the guard.
    """
    known = (Phase.SECRET, Phase.FORGET, Phase.UNGUARD) if failed else ()
    left: dict[str, list[Step]] = {}
    for step in steps:
        if step.cable not in failed and (step.cable or step.phase not in known):
            left.setdefault(step.cable if len(plan.cables) > 1 else "", []).append(step)
    return {
        cable: CablectlError(
            "all commands succeeded, but these steps are still to do",
            details=[f"{step.phase.label}: {shlex.join(step.argv)}" for step in cable_steps],
        )
        for cable, cable_steps in left.items()
    }
