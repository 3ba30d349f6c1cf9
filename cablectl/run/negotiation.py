"""Says when a cable is to be negotiated anew: which end asks, and how long it waits before.

One end of a cable begins (`Cable.initiates`), the other one waits. If both ask at the same time,
their requests cross, and one end has a Child SA of which the other one knows nothing. So the end
that waits asks only when it has heard nothing of the peer for long: it may be that the peer takes
the cable for up. Whoever asks begins with an empty slate, since pluto repeats a negotiation that
failed at a time of its own. Each attempt gets twice the time of the one before, up to MOST times.
"""

import random
from collections.abc import Container, Iterable

from msgspec import Struct

from cablectl.host.daemon import Negotiations
from cablectl.model.cable import Cable

REFUSED = 2.0  # seconds without any state after which the end that begins asks again
UNHEARD = 20.0  # seconds without any state after which the other end asks
JITTER = 10.0  # seconds that the other end may wait longer
STUCK = 30.0  # seconds after which the end that begins begins a negotiation anew that is under way
MOST = 4  # times of these at most: a peer may come at any moment
FOR_EACH = 0.5  # seconds longer for each cable: pluto negotiates with all peers at once


class _Course(Struct):
    """How the negotiation of a cable goes: times are in seconds, of time.monotonic."""

    cable: Cable
    begun: float  # when it was asked for the last time
    seen: float  # when pluto had a state of it the last time
    jitter: float
    tries: int = 0


class Timekeeper:
    """Tells of several cables which ones are due."""

    def __init__(self, cables: Iterable[Cable], now: float) -> None:
        jitters = random.Random()  # noqa: S311 - no secret depends on it
        # A server whose client may have any address can't ask.
        self._of = [
            _Course(cable, now, now, jitters.uniform(0, JITTER))
            for cable in cables
            if all(connection.routed for connection in cable.connections)
        ]
        self._slack = FOR_EACH * len(self._of)

    def due(self, waiting: Container[str], found: Negotiations, now: float) -> list[Cable]:
        """Return those of the waiting cables, by id, that this end is to negotiate anew now.

        They count as begun.
        """
        left = (course for course in self._of if course.cable.id in waiting)
        return [course.cable for course in left if self._is_due(course, found, now)]

    def _is_due(self, course: _Course, found: Negotiations, now: float) -> bool:
        if course.cable.names & found.seen:
            course.seen = now
        unseen = REFUSED if course.cable.initiates else UNHEARD + course.jitter + self._slack
        factor = min(2**course.tries, MOST)
        # The end that waits never breaks off what the other one has begun.
        is_due = now - max(course.seen, course.begun) > unseen * factor or (
            course.cable.initiates and now - course.begun > (STUCK + self._slack) * factor
        )
        if is_due:
            course.begun = course.seen = now
            course.tries += 1
        return bool(is_due)
