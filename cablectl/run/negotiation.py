"""Says when a cable is to be negotiated anew: which end asks, and how long it waits before.

One end of a cable begins (`Cable.initiates`), the other one waits. If both ask at the same time,
their requests cross, and one end has a Child SA of which the other one knows nothing. So the end
that waits asks only when it has heard nothing of the peer for long: it may be that the peer takes
the cable for up. Whoever asks begins with an empty slate, since pluto repeats a negotiation that
failed at a time of its own. Each attempt gets twice the time of the one before, up to MOST times.

A first request (IKE_SA_INIT) is no negotiation until the peer answers it. pluto 4.10 that was
refused a few times, by a peer that hadn't loaded the connection yet, is deaf to the later answers
to the same request (docs/libreswan.md).

Time is counted in looks at pluto. On a host that is busy a look takes longer, and so does the peer.
"""

import random
from collections.abc import Container, Iterable

from msgspec import Struct

from cablectl.libreswan.pluto import Negotiations
from cablectl.model.cable import Cable

POLL = 0.5  # seconds between two looks, at least
# All these are looks.
DROPPED = 1  # without the negotiation that the peer ended, as it does when its file was changed
REFUSED = 4  # without a negotiation, after which the end that begins asks again
UNHEARD = 8  # without a negotiation, after which the other end asks
JITTER = 6  # that each end may wait longer
STUCK = 30  # after which the end that begins begins a negotiation anew that is under way
MOST = 4  # times of these at most: a peer may come at any moment
# More for each cable that waited at the same time, since pluto negotiates with all peers at once.
FOR_EACH = 5  # until the other end asks
STUCK_FOR_EACH = 2
REFUSED_FOR_EACH = 0.25


class _Course(Struct):
    """How the negotiation of a cable goes, in looks."""

    cable: Cable
    jitter: int
    since_asked: int = 0
    unseen: int = 0  # since pluto negotiated with the peer, or since it was asked
    heard: bool = False  # whether pluto negotiated with the peer since the cable waits
    tries: int = 0
    crowd: int = 0  # cables that have waited at the same time


class Timekeeper:
    """Tells of several cables which ones are due."""

    def __init__(self, cables: Iterable[Cable]) -> None:
        # A server whose client may have any address can't ask.
        self._of = [
            _Course(cable, random.randint(0, JITTER))  # noqa: S311 - no secret depends on it
            for cable in cables
            if all(connection.routed for connection in cable.connections)
        ]

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
                course.since_asked = course.unseen = course.tries = course.crowd = 0
                course.heard = False
        for course in left:
            course.crowd = max(course.crowd, len(left))
        return [course.cable for course in left if self._is_due(course, found, hurry=hurry)]

    def _is_due(self, course: _Course, found: Negotiations, *, hurry: bool) -> bool:
        names, begins = course.cable.names, course.cable.initiates
        course.since_asked += 1
        heard = bool(names & found.heard)
        course.unseen = 0 if heard else course.unseen + 1
        course.heard |= heard
        factor = min(2**course.tries, MOST)
        patience: float = REFUSED
        if not begins:
            patience = UNHEARD + course.jitter + FOR_EACH * course.crowd
        elif names & found.unheard:
            patience = REFUSED + course.jitter + REFUSED_FOR_EACH * course.crowd
        elif course.heard and not course.tries:  # once: a peer that refuses may go on to do so
            patience = DROPPED + REFUSED_FOR_EACH * course.crowd
        stuck = STUCK + STUCK_FOR_EACH * course.crowd
        if hurry and not begins and not course.tries:
            patience = REFUSED + course.jitter
        # The end that waits never breaks off what the other one has begun.
        may_break = begins or not names.isdisjoint(found.asking)
        is_due = course.unseen > patience * factor or (
            may_break and course.since_asked > stuck * factor
        )
        if is_due:
            course.since_asked = course.unseen = 0
            course.tries += 1
        return is_due
