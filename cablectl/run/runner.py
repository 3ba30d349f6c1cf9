"""Runs the calls of a plan, with a journal entry before each step, and undoes steps."""

import time
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Protocol, assert_never

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.host import daemon, probe, reading
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import pluto_commands, whack
from cablectl.libreswan.authentication import authentication_of
from cablectl.linux import xfrm
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.plan import teardown_plan
from cablectl.plan.calls import Call, Kind, load
from cablectl.plan.steps import COMMAND_LIMIT, Change, Phase, Plan, Step
from cablectl.run import unanswered, waiting
from cablectl.run.command import Shell, batch
from cablectl.run.journal import Entry, Journal

WHACK_TRIES = 3  # as many as Submariner's driver makes
BATCH_RATE = 20  # commands of a batch in a second, on a slow host

Failures = dict[int, CablectlError]  # by place in the call


def _is_whack(argv: Argv) -> bool:
    return argv[:2] == pluto_commands.WHACK


def _has_deleted(argv: Argv) -> bool:
    """Tell whether a command was to delete a connection that pluto no longer has.

    The exit code of --delete is that of pluto's last message, whatever this is about.
    """
    name = whack.deleted_by(argv)
    status = daemon.pluto_status() if name else None
    return status is not None and name not in status.connections


class Progress(Protocol):
    """Receives each event of a run."""

    def note(self, text: str) -> None:
        """Show a note about an earlier or another run."""

    def begin(self, plan: Plan) -> None:
        """Show the plan's warnings."""

    def step(self, number: int, total: int, step: Step) -> None:
        """Show that a step begins."""

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Show which of `total` connections have no Child SA after so many seconds."""

    def failed(self, cable: str, error: CablectlError) -> None:
        """Show that one of several cables failed and is rolled back."""

    def undo(self, argv: Argv) -> None:
        """Show a command that undoes a step."""

    def undo_failed(self, argv: Argv, error: CablectlError) -> None:
        """Show an undo command that failed: a person has to look at it."""


class Runner:
    """Runs the needed steps of a plan, and rolls back; `clean` is false if a roll-back failed."""

    def __init__(self, plan: Plan, progress: Progress, journal: Journal) -> None:
        self._plan, self._progress, self._journal = plan, progress, journal
        self._cables = {cable.id: cable for cable in plan.cables}
        self._several = len(plan.cables) > 1
        self._log = PlutoLog()
        self._begun, self._total = 0, len(plan.needed)
        self._waiting_since = 0.0
        self._requests_ended = False
        self._shell = Shell(journal.locks)
        self.clean = True

    def extend(self, plan: Plan) -> None:
        """Count the steps of another plan for the same cables as well."""
        self._total += len(plan.needed)

    def close(self) -> None:
        """End the shell."""
        self._shell.close()

    def begin(self, steps: Iterable[Step]) -> None:
        """Write the steps into the journal and show them; HostNotReadyError if that fails."""
        for step in steps:
            self._begun += 1
            number, total = self._begun, self._total
            cable = self._cables.get(step.cable)
            self._journal.write(
                Entry(self._plan.title, number, total, step.phase.label, step.argv, step.undo),
                cable.bundle if cable else "",
            )
            self._progress.step(number, total, step)

    def do(self, call: Call) -> Failures:
        """Run the steps of a call; return the errors by place."""
        if any(whack.deleted_by(step.argv) for step in call.steps):
            self._before_deletion()
        match call.kind:
            case Kind.LOAD:
                return self._in_one_command(load(call.steps), call.steps)
            case Kind.SECRETS:
                cables = [self._cables[step.cable] for step in call.steps]
                if len({cable.next_key for cable in cables}) > 1:
                    return self._one_by_one(call.steps)
                install = authentication_of(cables[0].ipsec).install_all(cables)
                return self._in_one_command(install, call.steps)
            case Kind.BATCH:
                return self._batch(call.steps)
            case Kind.LOOK:
                return self._look(call.steps)
            case Kind.WAIT:
                return self._wait(call.steps)
            case Kind.ALONE:
                return self._one_by_one(call.steps)
            case _:
                assert_never(call.kind)

    def _before_deletion(self) -> None:
        """End the requests of the cables that lose a connection; of several cables once.

        What other cables negotiate goes on.
        """
        if self._several and self._requests_ended:
            return
        self._requests_ended = True
        deleted = list(self._deleted())
        own = (self._cables[cable].names for cable, _ in deleted if cable in self._cables)
        self._end_requests({name for _, name in deleted}.union(*own))

    def _deleted(self) -> Iterator[tuple[str, str]]:
        """Yield the cable's id and the name of each connection that the plan deletes."""
        for step in self._plan.needed:
            if name := whack.deleted_by(step.argv):
                yield step.cable, name

    def _one_by_one(self, steps: Iterable[Step], *, again: bool = False) -> Failures:
        """Run one command after the other; `again` if some of them may be done already."""
        failures: Failures = {}
        for place, step in enumerate(steps):
            try:
                self._run(step.argv, step, again=again)
            except CablectlError as error:
                failures[place] = error
        return failures

    def _in_one_command(self, argv: Argv, steps: Sequence[Step]) -> Failures:
        """Run one command for all steps; if it fails, run each step's own to find the cause.

        A step that is done already stays done when it runs again.
        """
        try:
            self._run(argv, steps[0], steps[0].limit + len(steps) / BATCH_RATE)
        except TimeLimitError as error:
            return dict.fromkeys(range(len(steps)), error)
        except CablectlError:
            return self._one_by_one(steps, again=True)
        return {}

    def _batch(self, steps: Sequence[Step]) -> Failures:
        limit = steps[0].limit + len(steps) / BATCH_RATE
        argvs = [step.argv for step in steps]
        return batch(argvs, limit, steps[0].phase.label, self._journal.locks)

    def _look(self, steps: Sequence[Step]) -> Failures:
        """Find the policies in one listing; the step's own command reports a missing policy."""
        listed = xfrm.parse_policies(probe.output("ip", "xfrm", "policy"))
        installed = set(map(xfrm.get_policy, listed))
        missing = [place for place, step in enumerate(steps) if step.argv not in installed]
        failures = self._one_by_one(steps[place] for place in missing)
        return {missing[i]: error for i, error in failures.items()}

    def _wait(self, steps: Sequence[Step]) -> Failures:
        errors = self._waiting(steps).errors()
        return {i: errors[step.cable] for i, step in enumerate(steps) if step.cable in errors}

    def as_they_come(
        self, steps: Sequence[Step]
    ) -> Iterator[tuple[frozenset[str], waiting.Errors]]:
        """Yield the cables, by id, whose Child SAs all stand, and at the end those without."""
        return self._waiting(steps).as_they_come()

    def _waiting(self, steps: Sequence[Step]) -> waiting.Waiting:
        self._waiting_since = self._waiting_since or time.monotonic()

        def show(left: Sequence[Step], seconds: float) -> None:
            total = max(len(steps), len(left))  # more than before after a cable began anew
            self._progress.waiting([step.waits_for for step in left], total, seconds)

        return waiting.Waiting(
            steps,
            self._waiting_since,
            show,
            self._log,
            self._cables,
            self._begin_anew,
            {cable for cable, _ in self._deleted()},
        )

    def _begin_anew(self, cable: Cable, idle: bool) -> None:
        """Unload the cable's connections, load them as the plan has them, and negotiate.

        If the end that waits has no state, it only negotiates: the peer may begin at any moment.
        What fails is tried again later, or makes the wait fail.
        """
        self._progress.note(f"no Child SA with {cable.remote.cluster} yet; negotiating anew")
        planned = [step for step in self._plan.steps if step.cable == cable.id]
        again: list[Argv] = []
        if cable.initiates or not idle:
            self._end_requests(cable.names)
            again += map(whack.delete, cable.names)
            again += (
                step.argv for step in planned if step.phase is Phase.ADD and step.kind is Change.ADD
            )
            again += map(whack.route, cable.names) if cable.traps else ()
        for argv in (*again, *map(whack.initiate, cable.names)):
            with suppress(CablectlError):
                self._command(daemon.directly(argv), planned[0], COMMAND_LIMIT, argv)

    def _end_requests(self, names: Container[str]) -> None:
        unanswered.end(names, "delete")

    def _run(
        self, argv: Argv, step: Step, limit: float | None = None, *, again: bool = False
    ) -> None:
        """Run one command; run whack again if pluto is too busy to answer in time.

        If the command may have run before (`again`), a loaded connection is no error.
        """
        direct = daemon.directly(argv)
        for left in reversed(range(WHACK_TRIES if _is_whack(argv) else 1)):
            try:
                self._command(direct, step, limit or step.limit, argv)
            except TimeLimitError:
                if step.phase is Phase.RETIRE:
                    return  # it does no harm, and a later look deletes it
                if not left:
                    raise
                again = True
            except CablectlError as error:
                if not (again and whack.is_already_loaded(error.details)):
                    raise
                return
            else:
                return

    def _command(self, argv: Argv, step: Step, limit: float, shown: Argv = ()) -> None:
        try:
            self._shell.run(argv, limit, step.phase.label, shown)
        except TimeLimitError:
            raise
        except CablectlError as error:
            # The peer may have deleted its Child SA at the same time.
            if not (_has_deleted(shown or argv) or whack.has_no_state(error.details)):
                raise

    def roll_back(self, done: Sequence[Step], cable: Cable | None = None) -> None:
        """Undo steps in reverse order, of all cables or of one.

        A command that fails is shown; the others run, and the first error stays the error of the
        run. If pluto has died, a teardown then finds and removes what its commands left.
        """
        undo = [(argv, step) for step in reversed(done) for argv in step.undo]
        reread = pluto_commands.REREAD_SECRETS
        last = max((i for i, (argv, _) in enumerate(undo) if argv == reread), default=0)
        if self._several:  # pluto reads all secrets at once, so the last time is enough
            undo = [
                (argv, step) for i, (argv, step) in enumerate(undo) if argv != reread or i == last
            ]
        if any(_is_whack(argv) for argv, _ in undo):
            cables = [cable] if cable else self._cables.values()
            self._end_requests({name for each in cables for name in each.names})
        undone = [self._undo(argv, step) for argv, step in undo]
        if not all(undone) and not self._tear_down_rest(cable):
            self.clean = False

    def _undo(self, argv: Argv, step: Step) -> bool:
        self._progress.undo(argv)
        try:
            self._command(argv, step, step.limit)
        except CablectlError as error:
            self._progress.undo_failed(argv, error)
            return False
        return True

    def _tear_down_rest(self, only: Cable | None) -> bool:
        """Tear down what is left of cables that weren't loaded before; return if that succeeded."""
        cables = (only,) if only else self._plan.cables
        before = tuple(zip(self._plan.cables, self._plan.facts, strict=True))
        if any(facts.loaded(cable) for cable, facts in before if only in (None, cable)):
            return False
        guarded_before = any(facts.guard for _, facts in before)
        try:
            facts = reading.facts_of(cables)
            left = teardown_plan.plan(cables, facts, keep_guard=guarded_before).needed
        except CablectlError as error:
            self._progress.note(f"can't read what is left: {error.message}")
            return False
        own = [
            step
            for step in left
            # A watch that rolls back goes on to keep its cable.
            if step.phase is not Phase.RELEASE and (not only or step.cable == only.id)
        ]
        undone = [self._undo(step.argv, step) for step in own]
        return all(undone)
