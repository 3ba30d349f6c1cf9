"""Waits for the Child SAs of all connections at once, and finds the cause of a missing one."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cablectl.errors import CablectlError, ClientAwayError, TimeLimitError
from cablectl.host import daemon
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import whack
from cablectl.libreswan.refusal import parse_certificate_refusal, parse_refusal
from cablectl.model.cable import Cable
from cablectl.plan.steps import COMMAND_LIMIT, Step
from cablectl.run.command import run

POLL = 0.5  # seconds between two reads of the Child SAs
AT_ONCE = 8  # peers that are asked at once; a silent peer takes COMMAND_LIMIT

ShowWaiting = Callable[[Sequence[Step], float], None]  # the steps that still wait, seconds


def wait(
    steps: Sequence[Step], since: float, show: ShowWaiting, log: PlutoLog, cables: dict[str, Cable]
) -> dict[str, CablectlError]:
    """Wait until every connection has a Child SA; return an error for each that has none.

    One limit holds for all steps, from `since` on (time.monotonic). `cables` has each by its id.
    """
    while left := _left(steps):
        passed = time.monotonic() - since
        if passed > steps[0].limit:
            return _errors(left, log, cables)
        show(left, passed)
        time.sleep(POLL)
    return {}


def _left(steps: Sequence[Step]) -> list[Step]:
    up = daemon.established()
    return [step for step in steps if step.waits_for not in up]


def _errors(left: list[Step], log: PlutoLog, cables: dict[str, Cable]) -> dict[str, CablectlError]:
    """Negotiate once for each cable: all connections of a cable fail for one reason."""
    step_of = {step.cable: step for step in reversed(left)}

    def error_of(step: Step) -> CablectlError:
        output = _negotiate_again(step.waits_for) if step.can_ask else ""
        # The log is read afterwards: this end may refuse the peer while it asks, and in the name of
        # the cable's other connection.
        cable = cables[step.cable]
        names = (connection.name for connection in cable.connections)
        return _no_child_sa(step, output, log.about(*names, address=str(cable.remote_host)))

    if len(step_of) == 1:  # in this thread, where Ctrl-C ends the command at once
        found = list(map(error_of, step_of.values()))
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            found = list(pool.map(error_of, step_of.values()))
    errors = dict(zip(step_of, found, strict=True))
    # This negotiation may have succeeded.
    return {step.waits_for: errors[step.cable] for step in _left(left)}


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


def _negotiate_again(name: str) -> str:
    """Negotiate in the foreground, and return what pluto prints about it.

    The old negotiation is ended first: pluto prints nothing about one that is under way.
    """
    try:
        run(whack.terminate(name), COMMAND_LIMIT, "diagnose")
        return run(whack.initiate_and_tell(name), COMMAND_LIMIT, "diagnose")
    except CablectlError as error:
        return "\n".join(error.details)
