"""Runs the calls of a plan, each step noted in the journal beforehand, and takes steps back."""

import os
import time
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol, assert_never

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.host import probe, reading
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import pluto_commands
from cablectl.libreswan.authentication import authentication_of
from cablectl.linux import xfrm
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.plan import teardown_plan
from cablectl.plan.calls import Call, Kind, load
from cablectl.plan.steps import Plan, Step
from cablectl.run import waiting
from cablectl.run.command import Shell, batch, run
from cablectl.run.journal import Entry, Journal

WHACK_TRIES = 3  # as many as Submariner's driver makes
BATCH_RATE = 20  # commands of a batch in a second, on a slow host

Failures = dict[int, CablectlError]  # by place in the call


class Progress(Protocol):
    """Who is told what happens, as it happens."""

    def note(self, text: str) -> None:
        """Tell what a person should know of earlier or other runs."""

    def begin(self, plan: Plan) -> None:
        """Tell what a person should know before anything happens."""

    def step(self, number: int, total: int, step: Step) -> None:
        """Tell that a step begins."""

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        """Tell which of so many connections have no Child SA yet, after so many seconds."""

    def failed(self, cable: str, error: CablectlError) -> None:
        """Tell that one cable of several failed and is undone; the others go on."""

    def undo(self, argv: Argv) -> None:
        """Tell what is run to undo a step."""

    def undo_failed(self, argv: Argv, error: CablectlError) -> None:
        """Tell what could not be undone: a person has to look."""


class Runner:
    """Runs the needed steps of a plan, and takes them back; `clean` says whether all went back."""

    def __init__(self, plan: Plan, progress: Progress, journal: Journal) -> None:
        self._plan, self._progress, self._journal = plan, progress, journal
        self._cables = {cable.id: cable for cable in plan.cables}
        self._several = len(plan.cables) > 1
        self._log = PlutoLog()
        self._begun, self._total = 0, len(plan.needed)
        self._waiting_since = 0.0
        self._shell = Shell(journal.lock)
        self.clean = True

    def close(self) -> None:
        """End what was kept running."""
        self._shell.close()

    def begin(self, steps: Iterable[Step]) -> None:
        """Note and tell that they begin; HostNotReadyError if they must not."""
        for step in steps:
            self._begun += 1
            number, total = self._begun, self._total
            self._journal.write(
                Entry(self._plan.action, number, total, step.phase.label, step.argv, step.undo)
            )
            self._progress.step(number, total, step)

    def do(self, call: Call) -> Failures:
        """Do what the call's steps say; return which failed, and why."""
        match call.kind:
            case Kind.LOAD:
                return self._together(load(call.steps), call.steps)
            case Kind.SECRETS:
                cables = [self._cables[step.cable] for step in call.steps]
                install = authentication_of(cables[0].ipsec).install_all(cables)
                return self._together(install, call.steps)
            case Kind.BATCH:
                return self._batch(call.steps)
            case Kind.LOOK:
                return self._look(call.steps)
            case Kind.WAIT:
                return self._wait(call.steps)
            case Kind.ALONE:
                return self._each(call.steps)
            case _:
                assert_never(call.kind)

    def _each(self, steps: Iterable[Step]) -> Failures:
        """Run one command after the other."""
        failures: Failures = {}
        for place, step in enumerate(steps):
            try:
                self._run(step.argv, step)
            except CablectlError as error:
                failures[place] = error
        return failures

    def _together(self, argv: Argv, steps: Sequence[Step]) -> Failures:
        """Run the one command that does what all of them do.

        If it fails each runs its own, to see which one it is: what is done already stays done.
        """
        try:
            self._run(argv, steps[0], steps[0].limit + len(steps) / BATCH_RATE)
        except TimeLimitError as error:
            return dict.fromkeys(range(len(steps)), error)
        except CablectlError:
            return self._each(steps)
        return {}

    def _batch(self, steps: Sequence[Step]) -> Failures:
        limit = steps[0].limit + len(steps) / BATCH_RATE
        argvs = [step.argv for step in steps]
        return batch(argvs, limit, steps[0].phase.label, self._journal.lock)

    def _look(self, steps: Sequence[Step]) -> Failures:
        """See the policies in one listing; one that isn't there has its own command say so."""
        listed = xfrm.parse_policies(probe.output("ip", "xfrm", "policy"))
        seen = set(map(xfrm.get_policy, listed))
        missing = (place for place, step in enumerate(steps) if step.argv not in seen)
        return {place: error for place in missing for error in self._each([steps[place]]).values()}

    def _wait(self, steps: Sequence[Step]) -> Failures:
        self._waiting_since = self._waiting_since or time.monotonic()

        def still(left: Sequence[Step], seconds: float) -> None:
            self._progress.waiting([step.waits_for for step in left], len(steps), seconds)

        peers = {name: str(cable.remote_host) for name, cable in self._cables.items()}
        why = waiting.wait(steps, self._waiting_since, still, self._log, peers)
        return {i: why[step.waits_for] for i, step in enumerate(steps) if step.waits_for in why}

    def _run(self, argv: Argv, step: Step, limit: float | None = None) -> None:
        """Run one command; whack is asked again when pluto is too busy to answer in time."""
        is_whack = argv[:2] == pluto_commands.WHACK
        direct = (*self._whack, *argv[2:]) if is_whack else argv
        for left in reversed(range(WHACK_TRIES if is_whack else 1)):
            try:
                self._command(direct, step, limit or step.limit, argv)
            except TimeLimitError:
                if not left:
                    raise
            else:
                return

    def _command(self, argv: Argv, step: Step, limit: float, shown: Argv = ()) -> None:
        if self._several:
            self._shell.run(argv, limit, step.phase.label, shown)
        else:
            run(argv, limit, step.phase.label, self._journal.lock)

    @cached_property
    def _whack(self) -> Argv:
        """Whack as the plan names it or, for several cables, without `ipsec`, which is a shell.

        That shell names pluto's socket if the environment moves it, and nothing else.
        """
        if not self._several or "IPSEC_RUNDIR" in os.environ:
            return pluto_commands.WHACK
        binary = Path(probe.if_any("ipsec", "--directory").strip(), pluto_commands.WHACK[1])
        runs = binary.is_absolute() and os.access(binary, os.X_OK)
        return (str(binary),) if runs else pluto_commands.WHACK

    def take_back(self, done: Sequence[Step], cable: Cable | None = None) -> None:
        """Undo in reverse order, of all cables or of one.

        What can't be undone is told and hides neither error nor the rest. What a pluto that died
        didn't take back goes the way that a teardown finds.
        """
        undo = [(argv, step) for step in reversed(done) for argv in step.undo]
        reread = pluto_commands.REREAD_SECRETS
        last = max((i for i, (argv, _) in enumerate(undo) if argv == reread), default=0)
        if self._several:  # pluto reads all secrets again: once will do
            undo = [each for i, each in enumerate(undo) if each[0] != reread or i == last]
        tried = [self._taken_back(argv, step) for argv, step in undo]
        if not all(tried) and not self._swept(cable):
            self.clean = False

    def _taken_back(self, argv: Argv, step: Step) -> bool:
        self._progress.undo(argv)
        try:
            self._command(argv, step, step.limit)
        except CablectlError as error:
            self._progress.undo_failed(argv, error)
            return False
        return True

    def _swept(self, only: Cable | None) -> bool:
        """Tear down what is left of cables that were not there before; tell if all went."""
        cables = (only,) if only else self._plan.cables
        before = zip(self._plan.cables, self._plan.facts, strict=True)
        if any(facts.loaded(each) for each, facts in before if only in (None, each)):
            return False
        try:
            left = teardown_plan.plan(cables, reading.facts_of(cables)).needed
        except CablectlError as error:
            self._progress.note(f"what is left can't be seen: {error.message}")
            return False
        own = [step for step in left if not only or step.cable == only.id]
        tried = [self._taken_back(step.argv, step) for step in own]
        return all(tried)
