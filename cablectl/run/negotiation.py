"""Says when a cable is to be negotiated anew: which end asks, and how long it waits before.

One end of a cable begins (`Cable.initiates`), the other one waits. If both ask at the same time,
their requests cross, and one end has a Child SA of which the other one knows nothing. So the end
that waits asks only when it has heard nothing of the peer for long: it may be that the peer takes
the cable for up. Whoever asks begins with an empty slate, since pluto repeats a negotiation that
failed at a time of its own. Each attempt gets twice the time of the one before, up to MOST times.

Time is counted in looks at pluto. On a host that is busy a look takes longer, and so does the peer.
"""

import random
from collections.abc import Container, Iterable

from msgspec import Struct

from cablectl.host.daemon import Negotiations
from cablectl.model.cable import Cable

POLL = 0.5  # seconds between two looks
# All these are looks.
REFUSED = 4  # without a negotiation, after which the end that begins asks again
UNHEARD = 12  # without a negotiation, after which the other end asks
JITTER = 6  # that the other end may wait longer
STUCK = 60  # after which the end that begins begins a negotiation anew that is under way
MOST = 4  # times of these at most: a peer may come at any moment
FOR_EACH = 1  # more for each cable: pluto negotiates with all peers at once


class _Course(Struct):
    """How the negotiation of a cable goes, in looks."""

    cable: Cable
    jitter: int
    since_asked: int = 0
    unseen: int = 0  # since pluto negotiated for it, or since it was asked
    tries: int = 0


class Timekeeper:
    """Tells of several cables which ones are due."""

    def __init__(self, cables: Iterable[Cable]) -> None:
        # A server whose client may have any address can't ask.
        self._of = [
            _Course(cable, random.randint(0, JITTER))  # noqa: S311 - no secret depends on it
            for cable in cables
            if all(connection.routed for connection in cable.connections)
        ]
        self._slack = FOR_EACH * len(self._of)

    def due(
        self, waiting: Container[str], found: Negotiations, *, hurry: bool = False
    ) -> list[Cable]:
        """Take note of a look; return those of the waiting cables, by id, to be negotiated anew.

        They count as asked. In a `hurry` an end that waits and hears nothing asks at once, if it
        hasn't asked yet: the time for the whole runs out.
        """
        left = list[_Course]()
        for course in self._of:
            if course.cable.id in waiting:
                left.append(course)
            else:
                course.since_asked = course.unseen = course.tries = 0
        return [course.cable for course in left if self._is_due(course, found, hurry=hurry)]

    def _is_due(self, course: _Course, found: Negotiations, *, hurry: bool) -> bool:
        course.since_asked += 1
        course.unseen = 0 if course.cable.names & found.under_way else course.unseen + 1
        begins = course.cable.initiates
        patience = REFUSED if begins else UNHEARD + course.jitter + self._slack
        factor = min(2**course.tries, MOST)
        is_due = (
            course.unseen > patience * factor
            or (hurry and not begins and not course.tries and course.unseen > REFUSED)
            # The end that waits never breaks off what the other one has begun.
            or (begins and course.since_asked > (STUCK + self._slack) * factor)
        )
        if is_due:
            course.since_asked = course.unseen = 0
            course.tries += 1
        return is_due
