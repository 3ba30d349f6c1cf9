"""Runs a plan, and nothing else changes the host: order, time limits, undo, and proof.

Commands run through `sh`. What a plan did is proven by planning again: a connect or teardown that
leaves something to do has failed.
"""

import io
import shlex
import signal
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

import sh

from cablectl import host, libreswan
from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.facts import Facts
from cablectl.journal import Entry, Journal, held
from cablectl.libreswan import Argv
from cablectl.log import PlutoLog
from cablectl.plan import COMMAND_LIMIT, Action, Outcome, Phase, Plan, Step, teardown
from cablectl.refusal import parse_refusal
from cablectl.signals import handled, leave

POLL = 0.5  # seconds between two looks at the Child SAs
WHACK_TRIES = 3  # as many as Submariner's driver makes
MAX_OUTPUT = 20  # lines of a failed command that an error repeats, the last ones


class Progress(Protocol):
    """Who is told what happens, as it happens."""

    def note(self, text: str) -> None:
        """Tell what a person should know of earlier or other runs."""

    def begin(self, plan: Plan) -> None:
        """Tell what a person should know before anything happens."""

    def step(self, number: int, total: int, step: Step) -> None:
        """Tell that a step begins."""

    def waiting(self, name: str, seconds: float) -> None:
        """Tell that a connection has no Child SA yet, after so many seconds."""

    def undo(self, argv: Argv) -> None:
        """Tell what is run to undo a step."""

    def undo_failed(self, argv: Argv, error: CablectlError) -> None:
        """Tell what could not be undone: a person has to look."""


def apply(lock: str, make_plan: Callable[[], Plan], progress: Progress, wait: float) -> Outcome:
    """Read the host, run what is needed, see that nothing is left to do; return what came of it.

    connect undoes everything at the first failure. teardown finishes the phase and begins no other:
    while the device is there, its policies stay. CablectlError, with the command and its output;
    TimeLimitError if somebody else is at work on the cable for longer than `wait` seconds.
    """
    with handled(leave), held(lock, wait, progress.note) as journal:
        if journal.left:
            progress.note(f"an earlier {journal.left.cut_off}; going on from what is there")
        plan = make_plan()
        progress.begin(plan)
        if plan.needed:
            run = _Runner(plan, progress, journal)
            if plan.action is Action.TEARDOWN:
                run.phases()
                _prove(make_plan)
            else:
                run.all_or_nothing(partial(_prove, make_plan))
        journal.end()
    return Outcome(plan)


class _Runner:
    """Runs the needed steps of a plan, each noted in the journal beforehand."""

    def __init__(self, plan: Plan, progress: Progress, journal: Journal) -> None:
        self._plan, self._progress, self._journal = plan, progress, journal

    def all_or_nothing(self, prove: Callable[[], None]) -> None:
        """Run all, or undo all that was begun."""
        done: list[Step] = []
        try:
            self._all(done)
            prove()
        except BaseException:
            self._undo(done)
            raise

    def phases(self) -> None:
        """Run the needed steps, also after a failure, to the end of its phase."""
        failure, failed_in = None, None
        for number, step in enumerate(self._plan.needed, start=1):
            if failed_in not in (None, step.phase):
                break
            self._begin(number, step)
            try:
                self._run(step.argv, step)
            except CablectlError as error:
                failure, failed_in = failure or error, step.phase
        if failure:
            raise failure

    def _all(self, done: list[Step]) -> None:
        """Run the needed steps; `done` holds those to undo, also when this ends in an exception."""
        waiting_since = None
        log = PlutoLog()
        for number, step in enumerate(self._plan.needed, start=1):
            self._begin(number, step)
            if step.waits_for:
                waiting_since = waiting_since or time.monotonic()
                logged = partial(log.about, step.waits_for, str(self._plan.cables[0].remote_host))
                _await(step, waiting_since, self._progress, logged)
                continue
            try:
                self._run(step.argv, step)
            except CablectlError as error:
                if isinstance(error, TimeLimitError):  # it may have been done all the same
                    done.append(step)
                raise
            except BaseException:
                done.append(step)
                raise
            done.append(step)

    def _begin(self, number: int, step: Step) -> None:
        total = len(self._plan.needed)
        self._journal.write(
            Entry(self._plan.action, number, total, step.phase.label, step.argv, step.undo)
        )
        self._progress.step(number, total, step)

    def _run(self, argv: Argv, step: Step) -> None:
        """Run one command; whack is asked again when pluto is too busy to answer in time."""
        for left in reversed(range(WHACK_TRIES if argv[:2] == libreswan.WHACK else 1)):
            try:
                run(argv, step.limit, step.phase.label, self._journal.lock)
            except TimeLimitError:
                if not left:
                    raise
            else:
                return

    def _undo(self, done: list[Step]) -> None:
        """Undo in reverse order; what can't be undone is told and hides neither error nor the rest.

        Another Ctrl-C doesn't leave it half done: every command has its time limit. What a pluto
        that died didn't take back goes the way that a teardown finds.
        """
        with handled(signal.SIG_IGN):
            tried = [self._taken_back(argv, step) for step in reversed(done) for argv in step.undo]
            if all(tried) or self._swept():
                self._journal.end()

    def _taken_back(self, argv: Argv, step: Step) -> bool:
        self._progress.undo(argv)
        try:
            run(argv, step.limit, step.phase.label, self._journal.lock)
        except CablectlError as error:
            self._progress.undo_failed(argv, error)
            return False
        return True

    def _swept(self) -> bool:
        """Tear down what is left of a cable that was not there before; tell if all went."""
        cables = self._plan.cables
        if any(map(Facts.loaded, self._plan.facts, cables)):
            return False
        try:
            left = teardown.plan(cables, host.facts_of(cables))
        except CablectlError as error:
            self._progress.note(f"what is left can't be seen: {error.message}")
            return False
        tried = [self._taken_back(step.argv, step) for step in left.needed]
        return all(tried)


def _prove(make_plan: Callable[[], Plan]) -> None:
    # Whether what was initiated came up is for the waits to say, if there are any.
    left = [step for step in make_plan().needed if step.phase is not Phase.INITIATE]
    if left:
        raise CablectlError(
            "every command succeeded, and yet this is still to do",
            details=[f"{step.phase.label}: {shlex.join(step.argv)}" for step in left],
        )


def _await(step: Step, since: float, progress: Progress, logged: Callable[[], str]) -> None:
    """Wait until the connection has a Child SA; all waits of a plan share one time limit."""
    while step.waits_for not in host.established():
        passed = time.monotonic() - since
        if passed > step.limit:
            error = _no_child_sa(step, logged())
            if step.waits_for in host.established():  # asking once more was enough
                return
            raise error
        progress.waiting(step.waits_for, passed)
        time.sleep(POLL)


def _no_child_sa(step: Step, logged: str) -> CablectlError:
    """Say why: from a negotiation in the foreground, or from what pluto logged since the start."""
    message = f"no Child SA for {step.waits_for} within {step.limit:.0f} s"
    told = _asked_once_more(step.waits_for) if step.can_ask else ""
    refusal = parse_refusal(told) or parse_refusal(logged)
    if refusal:
        return CablectlError(
            f"{message}: {refusal.reason}", hint=refusal.remedy, details=[refusal.line]
        )
    if not step.can_ask:
        return TimeLimitError(
            f"{message}: the client didn't come",
            hint="has it run connect, and does its UDP 500 and 4500 reach this host?",
        )
    return TimeLimitError(
        f"{message}: no answer from the peer",
        hint="is the peer up, has it run connect, and does UDP 500 and 4500 reach it?",
    )


def _asked_once_more(name: str) -> str:
    """Negotiate in the foreground, which is how pluto tells the reason.

    From the beginning: a negotiation that is under way already keeps its answers to itself.
    """
    try:
        run(libreswan.terminate(name), COMMAND_LIMIT, "diagnose")
        return run(libreswan.initiate_and_tell(name), COMMAND_LIMIT, "diagnose")
    except CablectlError as error:
        return "\n".join(error.details)


def run(argv: Argv, limit: float, what: str, lock: int | None = None) -> str:
    """Run one command for at most `limit` seconds; return what it printed.

    It keeps `lock` open: should this program be killed, the next one waits until the command ends.
    HostNotReadyError if it is not installed, TimeLimitError, or CablectlError with its output.
    """
    output = io.BytesIO()

    def failed(kind: type[CablectlError], how: str) -> CablectlError:
        lines = output.getvalue().decode(errors="replace").splitlines()[-MAX_OUTPUT:]
        return kind(f"{what}: the command {how}", details=[f"$ {shlex.join(argv)}", *lines])

    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill_group()

    try:
        # Not sh's own _timeout: it looks every 100 ms, which makes each command last that long.
        process = sh.Command(argv[0])(
            *argv[1:],
            _in="",
            _out=output,
            _err_to_out=True,
            _tty_out=False,
            _bg=True,
            _bg_exc=False,
            _new_session=True,  # Ctrl-C is for this program, which then undoes
            _pass_fds=set() if lock is None else {lock},
        )
        timer = threading.Timer(limit, expire)
        timer.daemon = True
        timer.start()
        try:
            process.wait()
        except (KeyboardInterrupt, SystemExit):
            process.kill_group()
            raise
        finally:
            timer.cancel()
    except sh.CommandNotFound:
        raise failed(HostNotReadyError, "is not installed") from None
    except sh.ErrorReturnCode as error:
        if expired.is_set():
            raise failed(TimeLimitError, f"took longer than {limit:g} s") from None
        if error.exit_code < 0:
            raise failed(CablectlError, f"was killed by signal {-error.exit_code}") from None
        raise failed(CablectlError, f"failed with exit code {error.exit_code}") from None
    return output.getvalue().decode(errors="replace")
