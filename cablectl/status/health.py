"""The record of a cable's echoes, and what it tells: which direction is dead, if one is.

How false verdicts are avoided:

- An echo is lost only after PATIENCE or the interval, whichever is longer, so an RTT may be longer
  than the interval. A later answer still turns the echo into an answered one.
- One answer proves both directions, so silence begins only after the last answered echo.
- The peer sends echoes, too. If bytes come in during the silence, the way from the peer works, so
  the way to the peer is dead. If none come in for two intervals, the way from the peer is dead, or
  the peer sends nothing.
- Bytes count only between two looks at the counters that are both within the silence.
- A peer that has never answered, while bytes came in from it, filters ICMP: it is `unanswering`. A
  way to the peer that has been dead from the beginning looks the same; `cablectl verify` tells.
- A peer that filters ICMP only later looks like a dead way to it, and the reason says so.
- A record belongs to the time in which the cable has Child SAs. When the cable comes up again, its
  owner begins another record, but not when SAs are replaced.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from itertools import takewhile
from statistics import fmean
from typing import NamedTuple, assert_never

from msgspec import Struct
from msgspec.structs import replace

from cablectl.libreswan.pluto import ChildSa
from cablectl.model.health_check import HealthCheck
from cablectl.model.wishes import AnyAddress
from cablectl.status.report import CableState, ChildSaState, Dead, Health, HealthState, Verdict

WINDOW = 100  # echoes, and looks at the counters
PATIENCE = 3.0  # seconds; the RTT over two satellites is 1.2
SEQUENCES = 1 << 16  # a sequence number has 16 bits (RFC 792)

Counters = ChildSa | ChildSaState  # what a pair of SAs carried, in bytes


class _Look(NamedTuple):
    """The bytes that came in and went out between two looks at the counters."""

    begin: float
    end: float
    bytes_in: int
    bytes_out: int


class _Echo(Struct):
    """When an echo was sent, and its RTT if it was answered; in seconds."""

    sent_at: float
    rtt: float | None = None


class EchoRecord:
    """The echoes of a cable while it has SAs.

    `ends` are the source and the target of its echoes. Every time `at` is in seconds of one clock
    that never goes back.
    """

    def __init__(self, check: HealthCheck, ends: tuple[AnyAddress, AnyAddress]) -> None:
        self._check, self._ends = check, ends
        self._patience = max(PATIENCE, check.interval)
        self._echoes: dict[int, _Echo] = {}  # the last WINDOW, by sequence number
        self._sent = self._answered = 0
        self._last_rtt: float | None = None
        self._jitter: float | None = None
        self._counters: dict[tuple[str, str], tuple[int, int]] = {}
        self._looked_at = 0.0
        self._looks: deque[_Look] = deque(maxlen=WINDOW)
        self._heard = False  # whether bytes ever came in

    @property
    def sequence(self) -> int:
        """The sequence number of the next echo."""
        return self._sent % SEQUENCES

    def sent(self, at: float) -> None:
        """Note that the next echo was sent."""
        if len(self._echoes) == WINDOW:
            del self._echoes[next(iter(self._echoes))]
        self._echoes[self.sequence] = _Echo(at)
        self._sent += 1

    def answered(self, sequence: int, rtt: float) -> None:
        """Note the answer to an echo, and its RTT in seconds; a second answer doesn't count."""
        echo = self._echoes.get(sequence)
        if echo is None or echo.rtt is not None:
            return
        echo.rtt = rtt
        self._answered += 1
        if self._last_rtt is not None:  # RFC 3550, section 6.4.1, in the order of arrival
            before = self._jitter or 0.0
            self._jitter = before + (abs(rtt - self._last_rtt) - before) / 16
        self._last_rtt = rtt

    def look(self, sas: Iterable[Counters], at: float) -> None:
        """Note the counters of the cable's Child SAs; without SAs, nothing is known."""
        found = {(sa.spi_in, sa.spi_out): (sa.bytes_in, sa.bytes_out) for sa in sas}
        if self._counters and found:
            bytes_in, bytes_out = map(sum, zip(*self._grown(found), strict=True))
            self._looks.append(_Look(self._looked_at, at, bytes_in, bytes_out))
            self._heard = self._heard or bytes_in > 0
        self._counters, self._looked_at = found, at

    def _grown(self, found: dict[tuple[str, str], tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield what each pair of SAs carried since the last look; a new pair began at 0."""
        for spis, (bytes_in, bytes_out) in found.items():
            old_in, old_out = self._counters.get(spis, (0, 0))
            yield max(0, bytes_in - old_in), max(0, bytes_out - old_out)

    def state(self, at: float) -> HealthState:
        """Return what the echoes tell; the answers up to `at` have to be noted before."""
        rtts = [echo.rtt for echo in self._echoes.values() if echo.rtt is not None]
        lost, row = self._lost(at)
        decided = len(rtts) + lost
        health = self._health(len(row))
        silent = health is Health.SILENT
        since = row[-1].sent_at if row else at
        return HealthState(
            health=health,
            dead=self._dead(since, at) if silent else None,
            silent_for=int(at - since) if silent else None,
            source=str(self._ends[0]),
            target=str(self._ends[1]),
            interval=self._check.interval,
            sent=self._sent,
            answered=self._answered,
            window=decided,
            loss=lost / decided if decided else None,
            rtt_last=self._last_rtt if rtts else None,
            rtt_mean=fmean(rtts) if rtts else None,
            jitter=self._jitter if rtts else None,
        )

    def falters(self, at: float) -> bool:
        """Tell whether no answer has come yet, or the last echo was lost."""
        newest = next(self._decided(at), None)
        return not self._answered or (newest is not None and newest.rtt is None)

    def _decided(self, at: float) -> Iterator[_Echo]:
        """Yield the echoes that are answered or lost, newest first."""
        for echo in reversed(self._echoes.values()):
            if echo.rtt is not None or at - echo.sent_at >= self._patience:
                yield echo

    def _lost(self, at: float) -> tuple[int, list[_Echo]]:
        """Return how many echoes are lost, and those since the last answered one, newest first."""
        decided = [*self._decided(at)]
        row = [*takewhile(lambda echo: echo.rtt is None, decided)]
        return sum(echo.rtt is None for echo in decided), row

    def _health(self, lost_in_a_row: int) -> Health:
        if lost_in_a_row >= self._check.threshold:
            filtered = self._heard and not self._answered
            return Health.UNANSWERING if filtered else Health.SILENT
        return Health.ANSWERING if self._answered else Health.UNKNOWN

    def _dead(self, since: float, at: float) -> Dead | None:
        """Return where echoes are lost; None if the counters don't tell, or don't tell yet.

        Only the last echoes matter, since a second direction may have died later.
        """
        begin = max(since, at - (self._check.threshold + 2) * self._patience)
        looks = [look for look in self._looks if look.begin >= begin]
        if not looks:
            return None
        first, last = looks[0].begin, looks[-1].end
        was_sent = any(first <= echo.sent_at < last for echo in self._echoes.values())
        if was_sent and not any(look.bytes_out for look in looks):
            return Dead.HERE
        if any(look.bytes_in for look in looks):
            return Dead.OUT
        return Dead.IN if last - first >= 2 * self._check.interval else None


def with_health(cable: CableState, health: HealthState | None) -> CableState:
    """Return the state with what its echoes tell: silence degrades a cable that has SAs."""
    cable = replace(cable, health=health)
    if health is None or health.health is not Health.SILENT:
        return cable
    if cable.verdict not in (Verdict.UP, Verdict.DEGRADED):
        return cable
    return replace(cable, verdict=Verdict.DEGRADED, reasons=(*cable.reasons, _reason(health.dead)))


def _reason(dead: Dead | None) -> str:
    """Return why the cable is degraded; without the time, since each new reason is reported."""
    match dead:
        case None:
            return "no echo comes back"
        case Dead.HERE:
            return "no echo comes back: this host's packets don't reach the SAs"
        case Dead.OUT:
            return (
                "no echo comes back, but packets come in: packets to the peer are lost, or it no"
                " longer answers echoes"
            )
        case Dead.IN:
            return (
                "no echo comes back, and nothing comes in: packets from the peer are lost, perhaps"
                " also packets to it"
            )
        case _:
            assert_never(dead)
