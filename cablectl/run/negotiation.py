"""Says when a cable is to be negotiated anew: which end asks, and how long it waits before.

One end of a cable begins (`Cable.initiates`), the other one waits. If both ask at the same time,
their requests cross, and one end has a Child SA of which the other one knows nothing. So the end
that waits asks only when it has heard nothing of the peer for long: it may be that the peer takes
the cable for up. Whoever asks begins with an empty slate, since pluto repeats a negotiation that
failed at a time of its own. Each attempt gets twice the time of the one before, up to a limit.

Two ends that apply a changed file at the same moment miss each other: the one that is later refuses
what the other one asks, or forgets it. So there the end that begins asks soon again, once.

A first request (IKE_SA_INIT) is no negotiation until the peer answers it. pluto 4.10 that was
refused a few times, by a peer that hadn't loaded the connection yet, is deaf to the later answers
to the same request (docs/libreswan.md).

Time is counted in looks at pluto. On a host that is busy a look takes longer, and so does the peer.
Whoever looks less often has one look count for several, but not for a peer whose answer to a first
request is missing: such a peer is away, and pluto goes on to ask it.
"""

import random
from collections.abc import Container, Iterable

from msgspec import Struct

from cablectl.libreswan.pluto import Negotiations
from cablectl.model.cable import Cable

POLL = 0.5  # seconds between two looks, at least
# All these are looks.
# Without the negotiation that the peer ended, or without progress if this end's file was changed;
# then the end that begins asks again, once.
DROPPED = 1
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
    changed: bool = False  # whether this run has deleted its connections
    waits: bool = False  # whether it waited at the last look
    requests: frozenset[str] = frozenset()  # connections with a request that waits
    since_asked: int = 0
    unseen: int = 0  # since pluto negotiated with the peer, or since it was asked
    heard: bool = False  # whether pluto negotiated with the peer since the cable waits
    tries: int = 0
    crowd: int = 0  # cables that have waited at the same time


class Timekeeper:
    """Tells of several cables which ones are due; `changed` are those whose file was changed.

    An attempt gets at most `most` times the time of the first one.
    """

    def __init__(
        self, cables: Iterable[Cable], changed: Container[str] = (), most: int = MOST
    ) -> None:
        self._most = most
        # A server whose client may have any address can't ask.
        self._of = [
            _Course(
                cable,
                random.randint(0, JITTER),  # noqa: S311 - no secret depends on it
                cable.id in changed,
            )
            for cable in cables
            if all(connection.routed for connection in cable.connections)
        ]

    def due(
        self,
        waiting: Container[str],
        found: Negotiations,
        *,
        hurry: bool = False,
        looks: int = 1,
    ) -> list[Cable]:
        """Take note of a look; return those of the waiting cables, by id, to be negotiated anew.

        It counts for so many `looks`, since the last one.

        In a `hurry` an end that waits and hears nothing asks soon, if it hasn't asked yet: the time
        for the whole runs out, or this end alone has begun anew.
        """
        left = list[_Course]()
        for course in self._of:
            if course.cable.id in waiting:
                left.append(course)
            else:
                course.since_asked = course.unseen = course.tries = course.crowd = 0
                course.heard = course.waits = False
        for course in left:
            course.crowd = max(course.crowd, len(left))
        return [course.cable for course in left if self._is_due(course, found, looks, hurry=hurry)]

    def asked(self, cable: Cable) -> None:
        """Take note that the cable was negotiated anew."""
        for course in self._of:
            if course.cable.id == cable.id:
                course.since_asked = course.unseen = 0
                course.tries += 1

    def _is_due(self, course: _Course, found: Negotiations, looks: int, *, hurry: bool) -> bool:
        names, begins = course.cable.names, course.cable.initiates
        passed = looks if course.waits and not names & found.unheard else 1
        course.waits = True
        course.since_asked += passed
        heard = bool(names & found.heard)
        course.heard |= heard
        waits_still = names & found.asking & course.requests
        course.requests = names & found.asking
        again_soon = begins and not course.tries and course.changed
        is_seen = heard and not (again_soon and waits_still)
        course.unseen = 0 if is_seen else course.unseen + passed
        factor = min(2**course.tries, self._most)
        patience: float = REFUSED
        if not begins:
            patience = UNHEARD + course.jitter + FOR_EACH * course.crowd
        elif again_soon:
            patience = DROPPED + REFUSED_FOR_EACH * course.crowd
        elif names & found.unheard:
            patience = REFUSED + course.jitter + REFUSED_FOR_EACH * course.crowd
        elif course.heard and not course.tries:  # once: a peer that refuses may go on to do so
            patience = DROPPED + REFUSED_FOR_EACH * course.crowd
        stuck = STUCK + STUCK_FOR_EACH * course.crowd
        if hurry and not begins and not course.tries:
            patience = REFUSED + course.jitter + REFUSED_FOR_EACH * course.crowd
        # The end that waits never breaks off what the other one has begun.
        may_break = begins or not names.isdisjoint(found.asking)
        return course.unseen > patience * factor or (
            may_break and course.since_asked > stuck * factor
        )
