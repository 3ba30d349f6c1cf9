"""Waits for the Child SAs of all connections at once, and says of each that didn't come why."""

import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.host import daemon
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import whack
from cablectl.libreswan.refusal import parse_refusal
from cablectl.plan.steps import COMMAND_LIMIT, Step
from cablectl.run.command import run

POLL = 0.5  # seconds between two looks at the Child SAs
AT_ONCE = 8  # peers that are asked at once; one that is silent takes COMMAND_LIMIT

Waiting = Callable[[Sequence[Step], float], None]  # the steps that still wait, seconds


def wait(
    steps: Sequence[Step], since: float, waiting: Waiting, log: PlutoLog, peers: dict[str, str]
) -> dict[str, CablectlError]:
    """Wait until every connection has a Child SA; return why some have none, by connection.

    All share one limit, from `since` on (time.monotonic); `peers` are the addresses of the other
    ends, by cable.
    """
    while left := _left(steps):
        passed = time.monotonic() - since
        if passed > steps[0].limit:
            return _why(left, log, peers)
        waiting(left, passed)
        time.sleep(POLL)
    return {}


def _left(steps: Sequence[Step]) -> list[Step]:
    up = daemon.established()
    return [step for step in steps if step.waits_for not in up]


def _why(left: list[Step], log: PlutoLog, peers: dict[str, str]) -> dict[str, CablectlError]:
    """Ask once for each cable: its connections fail for the same reason."""
    of_each = {step.cable: step for step in reversed(left)}

    def asked(step: Step) -> CablectlError:
        return _no_child_sa(step, log.about(step.waits_for, peers[step.cable]))

    if len(of_each) == 1:  # Ctrl-C ends what runs in this thread at once
        why = list(map(asked, of_each.values()))
    else:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            why = list(pool.map(asked, of_each.values()))
    errors = dict(zip(of_each, why, strict=True))
    # For some it was enough to be asked once more.
    return {step.waits_for: errors[step.cable] for step in _left(left)}


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
        run(whack.terminate(name), COMMAND_LIMIT, "diagnose")
        return run(whack.initiate_and_tell(name), COMMAND_LIMIT, "diagnose")
    except CablectlError as error:
        return "\n".join(error.details)
