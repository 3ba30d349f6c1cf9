"""Sends the echoes of all cables that are up, keeps their records, and says which are silent."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Set
from contextlib import ExitStack, suppress
from typing import Self

from msgspec import Struct

from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.host import daemon, health_state
from cablectl.host.echoes import Answer, Echoes
from cablectl.model.cable import Cable
from cablectl.model.health_check import HealthCheck
from cablectl.model.wishes import AnyAddress
from cablectl.status.health import EchoRecord
from cablectl.status.report import Health, HealthState, RepairState

NEVER = float("inf")
MOST = 64  # times of the first patience at most, after many renewals in vain
WAITS = 3  # times of the patience for the end that waits: the other one acts first


class _Heart(Struct):
    """A cable that is up: where its echoes go, and what became of them."""

    cable: Cable
    check: HealthCheck
    ends: tuple[AnyAddress, AnyAddress]
    record: EchoRecord
    state: HealthState | None = None


class Pulse:
    """The echoes of the cables of one file, as a context manager.

    `log` gets a line when a peer falls silent, and when it answers again. `repairs`, by the cables'
    ids, go into the file that status reads.
    """

    def __init__(self, log: Callable[..., None], repairs: Mapping[str, RepairState]) -> None:
        self._log, self._repairs = log, repairs
        self._stack = ExitStack()
        self._echoes: Echoes | None = None
        self._versions: frozenset[int] = frozenset()  # of IP, of the echoes
        self._hearts: dict[str, _Heart] = {}  # by the cable's id
        self._renewed: dict[str, int] = {}  # how often, since the last answer
        self._told: dict[str, Health] = {}
        self._next = NEVER  # of time.monotonic
        self._name = ""  # of the file that status reads
        self._error = ""  # that was told last, while it lasts

    def __enter__(self) -> Self:
        """Open nothing yet: the sockets depend on the cables."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sockets, and remove the file that status reads."""
        self._stack.close()
        if self._name:
            with suppress(OSError):
                health_state.remove(self._name)

    @property
    def next(self) -> float:
        """When the next echoes are due, of time.monotonic."""
        return self._next

    @property
    def _states(self) -> Mapping[str, HealthState]:
        """What the echoes told last, by the cables' ids."""
        return {id_: heart.state for id_, heart in self._hearts.items() if heart.state}

    def take(self, cables: Iterable[Cable], up: Set[str]) -> None:
        """Begin a record for each cable that has come up, and end that of each other one."""
        hearts = {}
        for cable in cables:
            if cable.id in up and cable.health and cable.echo_ends:
                before, ends = self._hearts.get(cable.id), cable.echo_ends
                if before and (before.check, before.ends) == (cable.health, ends):
                    hearts[cable.id] = before
                else:
                    record = EchoRecord(cable.health, ends)
                    hearts[cable.id] = _Heart(cable, cable.health, ends, record)
        versions = {heart.ends[0].version for heart in hearts.values()}
        if not versions <= self._versions:  # of a changed file
            self._close()
        self._hearts = hearts
        if not hearts:
            self._next = NEVER
        elif self._next == NEVER:
            self._open(next(iter(hearts.values())))

    def _close(self) -> None:
        self._stack.close()
        self._echoes, self._versions, self._next = None, frozenset(), NEVER

    def _open(self, first: _Heart) -> None:
        if not self._echoes:
            versions = frozenset(heart.ends[0].version for heart in self._hearts.values())
            try:
                self._echoes = self._stack.enter_context(Echoes(versions))
            except HostNotReadyError as error:
                self._tell_once("no echoes", error)
                return
            self._versions = versions
            self._name = self._name or first.cable.id
        self._next = time.monotonic()

    def turn(self) -> frozenset[str]:
        """Take the answers, send what is due; return the cables, by id, to be negotiated anew."""
        if not self._echoes:
            return frozenset()
        answers = defaultdict[AnyAddress, list[Answer]](list)
        for answer in self._echoes.receive():
            answers[answer.target].append(answer)
        for heart in self._hearts.values() if answers else ():
            for answer in answers.get(heart.ends[1], ()):
                heart.record.answered(answer.sequence, answer.rtt)
        now = time.monotonic()
        if now < self._next:
            return frozenset()
        self._judge(now)
        for heart in self._hearts.values():
            if self._echoes.send(*heart.ends, heart.record.sequence):
                heart.record.sent(now)
        self._next = now + min(heart.check.interval for heart in self._hearts.values())
        due = frozenset(id_ for id_, heart in self._hearts.items() if self._is_due(id_, heart))
        for cable in due:
            self._renewed[cable] = self._renewed.get(cable, 0) + 1
        return due

    def _judge(self, now: float) -> None:
        """Look at the counters of cables whose echoes get no answer; note and tell the states."""
        counters = {}
        faltering = [heart for heart in self._hearts.values() if heart.record.falters(now)]
        if faltering:
            with suppress(CablectlError):
                status = daemon.pluto_status()
                counters = status.connections if status else {}
        for heart in faltering:
            loaded = (counters[name] for name in heart.cable.names if name in counters)
            heart.record.look([sa for each in loaded for sa in each.child_sas], now)
        for id_, heart in self._hearts.items():
            heart.state = heart.record.state(now)
            self._tell(id_, heart.cable.remote.cable_name, heart.state)
        try:
            health_state.write(self._name, self._states, time.time(), self._repairs)
        except HostNotReadyError as error:
            self._tell_once("status can't read the echoes", error)
        else:
            self._error = ""

    def _tell_once(self, what: str, error: HostNotReadyError) -> None:
        if error.message != self._error:
            self._log(f"{what}: {error.message}", error=error.message)
        self._error = error.message

    def _tell(self, cable: str, name: str, found: HealthState) -> None:
        before, health = self._told.get(cable), found.health
        if health is not Health.UNKNOWN and health is not before:
            self._told[cable] = health
            if before or health is not Health.ANSWERING:
                self._log(f"{name}: echoes are {health}", cable=name, health=health)
        if health is Health.ANSWERING:
            self._renewed.pop(cable, None)

    def _is_due(self, cable: str, heart: _Heart) -> bool:
        """Tell whether a silent cable is to be negotiated anew: each time after twice the time."""
        if not heart.state or heart.state.silent_for is None:
            return False
        patience = heart.check.interval * heart.check.threshold
        patience *= 1 if heart.cable.initiates else WAITS
        factor = min(1 << self._renewed.get(cable, 0), MOST)
        return heart.state.silent_for >= patience * factor
