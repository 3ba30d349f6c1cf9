"""Waits until every peer has answered an echo through its cable: the last proof of connect."""

import select
import time
from collections.abc import Callable, Iterable, Sequence

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.host.echoes import Echoes
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress

LEAST = 5.0  # seconds that a peer has at least: its own connect may end a little later
EVERY = 0.5  # seconds between two echoes

ShowSilent = Callable[[Sequence[str], int, float], None]  # ids of cables, how many, seconds


def silent(cables: Iterable[Cable], seconds: float, show: ShowSilent) -> dict[str, CablectlError]:
    """Send echoes for at most so many seconds; return an error for each cable without an answer.

    The errors are by the cable's id. A cable without SAs, without two addresses of its own or with
    `health: off` isn't asked. HostNotReadyError if this host can't send ICMP.
    """
    left = {
        ends: cable
        for cable in cables
        if cable.connections and cable.health and (ends := cable.echo_ends)
    }
    total, begin, sequence = len(left), time.monotonic(), 0
    if not left:
        return {}
    with Echoes({target.version for _, target in left}) as echoes:
        while True:
            for source, target in left:
                echoes.send(source, target, sequence)
            sequence = (sequence + 1) % 0x10000
            until = time.monotonic() + EVERY
            while left and (pause := until - time.monotonic()) > 0:
                select.select(echoes.filenos, (), (), pause)
                answered = {answer.target for answer in echoes.receive()}
                left = {ends: cable for ends, cable in left.items() if ends[1] not in answered}
            passed = time.monotonic() - begin
            if not left or passed >= seconds:
                return {cable.id: _error(ends[1], passed) for ends, cable in left.items()}
            show([cable.id for cable in left.values()], total, passed)


def _error(target: AnyAddress, seconds: float) -> CablectlError:
    return TimeLimitError(
        f"all Child SAs are up, but {target} answers no echo within {seconds:.0f} s;"
        " the cable stays as it is",
        hint="run connect on the peer; cablectl doctor looks for the cause; if the peer drops ICMP,"
        " write health: off",
    )
