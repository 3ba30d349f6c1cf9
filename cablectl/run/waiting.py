"""Waits for the Child SAs of all connections at once, and finds the cause of a missing one."""

import time
from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

from msgspec.structs import replace

from cablectl.errors import CablectlError, ClientAwayError, TimeLimitError
from cablectl.host import daemon
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import whack
from cablectl.libreswan.pluto import Negotiations
from cablectl.libreswan.refusal import (
    parse_certificate_refusal,
    parse_refusal,
    without_strangers,
)
from cablectl.model.cable import Cable
from cablectl.plan.steps import COMMAND_LIMIT, Step
from cablectl.run import unanswered
from cablectl.run.command import run
from cablectl.run.negotiation import POLL, Timekeeper

SHARE = 6  # times of a look that is slept after it: to look often keeps pluto from its work
AT_ONCE = 8  # peers that are asked at once for the cause; a silent peer takes COMMAND_LIMIT
ASKING = 60  # seconds in which peers are asked; of the others, pluto's log has to tell the cause

Errors = dict[str, CablectlError]  # by the cable's id
ShowWaiting = Callable[[Sequence[Step], float], None]  # the steps that still wait, seconds


class Waiting:
    """Waits for the Child SAs of these steps, of one cable or of several.

    One limit holds for all steps, from `since` on (time.monotonic). `cables` has each by its id.
    `begin_anew` is called with a cable, and whether pluto has no state of it. `changed` are the
    cables, by id, whose connections this run has deleted.
    """

    def __init__(
        self,
        steps: Sequence[Step],
        since: float,
        show: ShowWaiting,
        log: PlutoLog,
        cables: Mapping[str, Cable],
        begin_anew: Callable[[Cable, bool], None],
        changed: Container[str] = (),
    ) -> None:
        self._left, self._since, self._show = list(steps), since, show
        self._log, self._cables, self._begin_anew = log, cables, begin_anew
        self._found = Negotiations(frozenset(), frozenset())
        ids = {step.cable: None for step in steps}
        self._keeper = Timekeeper((cables[cable] for cable in ids), changed)

    def as_they_come(self) -> Iterator[tuple[frozenset[str], Errors]]:
        """Yield the cables, by id, whose Child SAs all stand, and at the end those without."""
        yield frozenset(self._cables.keys() - {step.cable for step in self._left}), {}
        while self._left:
            waiting = {step.cable for step in self._left}
            begin = time.monotonic()
            found = self._look()
            took = time.monotonic() - begin
            self._left = self._unfinished(found)
            if ready := waiting - {step.cable for step in self._left}:
                yield frozenset(ready), {}
                continue
            seconds, limit = time.monotonic() - self._since, self._left[0].limit
            if seconds > limit:
                missing = _without(self._left, found)
                errors = _errors(missing, self._log, self._cables) if missing else {}
                yield frozenset(waiting - errors.keys()), errors
                return
            self._show(self._left, seconds)
            for cable in self._keeper.due(waiting, found, hurry=seconds > limit / 2):
                # The peer may have begun since, on a host that is busy.
                now = self._look()
                if cable.names & (now.heard - found.heard | now.up - found.up):
                    continue
                self._keeper.asked(cable)
                # The peer that this end refuses would take the cable for up.
                if cable.initiates or not parse_certificate_refusal(_logged(self._log, cable)):
                    self._begin_anew(cable, not cable.names & (now.under_way | now.up))
                    self._left = [*self._left, *self._others_of(cable)]
            time.sleep(max(POLL, SHARE * took))

    def _unfinished(self, found: Negotiations) -> list[Step]:
        """Return the steps of cables without a Child SA, or with a request that waits.

        Its answer would bring a Child SA too many.
        """
        missing = {step.cable for step in _without(self._left, found)}
        return [
            step
            for step in self._left
            if step.waits_for not in found.up
            or (step.cable not in missing and self._cables[step.cable].names & found.asking)
        ]

    def _look(self) -> Negotiations:
        """Return what pluto says; what it said before if it is too busy to answer."""
        with suppress(TimeLimitError):
            self._found = daemon.negotiations()
        return self._found

    def _others_of(self, cable: Cable) -> Iterator[Step]:
        """Yield steps for the connections that nothing waited for, since they were up."""
        own = [step for step in self._left if step.cable == cable.id]
        for name in sorted(cable.names - {step.waits_for for step in own}):
            yield replace(own[0], waits_for=name)

    def errors(self) -> Errors:
        """Wait for all, and return the error of each cable, by id, without its Child SAs."""
        return {
            cable: error for _, errors in self.as_they_come() for cable, error in errors.items()
        }


def _without(steps: Iterable[Step], found: Negotiations) -> list[Step]:
    return [step for step in steps if step.waits_for not in found.up]


def _errors(left: list[Step], log: PlutoLog, cables: Mapping[str, Cable]) -> Errors:
    """Negotiate once for each cable: all connections of a cable fail for one reason."""
    step_of = {step.cable: step for step in reversed(left)}
    deadline = time.monotonic() + ASKING

    def error_of(step: Step) -> CablectlError:
        cable = cables[step.cable]
        output, logged = "", _logged(log, cable)
        refuses = parse_certificate_refusal(logged)
        if step.can_ask and not refuses and time.monotonic() < deadline:
            output = _negotiate_again(step.waits_for, cable.names)
            logged = _logged(log, cable)  # this end may have refused the peer meanwhile
        return _no_child_sa(step, output, logged)

    if len(step_of) == 1:  # in this thread, where Ctrl-C ends the command at once
        found = list(map(error_of, step_of.values()))
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(error_of, step_of.values()))
    errors = dict(zip(step_of, found, strict=True))
    with suppress(TimeLimitError):  # pluto may be too busy to answer
        left = _without(left, daemon.negotiations())  # this negotiation may have succeeded
    return {step.cable: errors[step.cable] for step in left}


def _logged(log: PlutoLog, cable: Cable) -> str:
    """Return the lines about all connections of a cable: pluto refuses in the name of any."""
    names = (connection.name for connection in cable.connections)
    return without_strangers(log.about(*names, address=str(cable.remote_host)))


def _no_child_sa(step: Step, output: str, logged: str) -> CablectlError:
    """Return the cause by what pluto printed and logged.

    A certificate that this end refused is the cause, whatever the peer answers: it gave up.
    """
    message = f"no Child SA for {step.waits_for} within {step.limit:.0f} s"
    if refusal := (
        parse_certificate_refusal(logged) or parse_refusal(output) or parse_refusal(logged)
    ):
        return CablectlError(
            f"{message}: {refusal.reason}", hint=refusal.remedy, details=[refusal.line]
        )
    if not step.can_ask:
        return ClientAwayError(
            f"{message}: the client didn't negotiate; the cable waits for it, and comes up then",
            hint="run connect on the client, and let its UDP 500 and 4500 reach this host",
        )
    return TimeLimitError(
        f"{message}: no answer from the peer",
        hint="start the peer, run connect there, and let UDP 500 and 4500 reach the peer",
    )


def _negotiate_again(name: str, of_cable: Container[str]) -> str:
    """Negotiate in the foreground, and return what pluto prints about it.

    The old negotiation is ended first: pluto prints nothing about one that is under way.
    """
    unanswered.end(of_cable, "diagnose")
    try:
        run(whack.terminate(name), COMMAND_LIMIT, "diagnose")
        return run(whack.initiate_and_tell(name), COMMAND_LIMIT, "diagnose")
    except CablectlError as error:
        return "\n".join(error.details)
