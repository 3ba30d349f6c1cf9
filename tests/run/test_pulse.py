"""The echoes of a watch: for which cables, and after how long a cable is negotiated anew."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Self

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.host import daemon, health_state
from cablectl.host.echoes import Answer
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress
from cablectl.run import pulse
from cablectl.run.pulse import NEVER, Pulse
from cablectl.status.report import Health
from tests.support.documents import shaped
from tests.support.examples import load

PATIENCE = 15  # seconds, the interval times the threshold


class Peers:
    """What peers answer; time passes in seconds, and all echoes go here."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now, self.answer = 1000.0, True
        self.refusal: CablectlError | None = None
        self.versions: list[frozenset[int]] = []
        self.sent: list[tuple[AnyAddress, AnyAddress]] = []
        self._answers: list[Answer] = []
        self.lines: list[str] = []
        patch.setattr(time, "monotonic", lambda: self.now)
        patch.setattr(pulse, "Echoes", self._opened)
        patch.setattr(daemon, "pluto_status", lambda: None)

    def _opened(self, versions: Iterable[int]) -> Self:
        if self.refusal:
            raise self.refusal
        self.versions.append(frozenset(versions))
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, source: AnyAddress, target: AnyAddress, sequence: int) -> bool:
        assert target.version in self.versions[-1]
        self.sent.append((source, target))
        if self.answer:
            self._answers.append(Answer(target, sequence, 0.05))
        return True

    def receive(self) -> list[Answer]:
        answers, self._answers = self._answers, []
        return answers

    def log(self, line: str, **_: str) -> None:
        self.lines.append(line)

    def seconds(self, one: Pulse, count: int) -> list[float]:
        """Let seconds pass; return when a cable was to be negotiated anew."""
        due = []
        for _ in range(count):
            if one.turn():
                due.append(self.now)
            self.now += 1
        return due


@pytest.fixture
def peers(monkeypatch: pytest.MonkeyPatch) -> Peers:
    return Peers(monkeypatch)


@pytest.fixture
def one(peers: Peers) -> Iterator[Pulse]:
    with Pulse(peers.log, {}) as made:
        yield made


def test_a_cable_that_is_up_gets_an_echo_each_interval(
    peers: Peers, one: Pulse, cable: Cable
) -> None:
    one.take([cable], {cable.id})
    peers.seconds(one, 16)
    assert peers.sent == [cable.echo_ends] * 4
    assert health_state.read(time.time())[cable.id].health is Health.ANSWERING
    assert peers.lines == []


def test_a_cable_without_child_sas_or_without_the_wish_gets_none(
    peers: Peers, one: Pulse, cable: Cable
) -> None:
    unwished = replace(cable, health=None)
    for cables, up in (([cable], set[str]()), ([unwished], {cable.id})):
        one.take(cables, up)
        assert peers.seconds(one, 10) == []
    assert (peers.sent, one.next) == ([], NEVER)


@pytest.mark.parametrize(("end", "waits"), [("cluster2", 1), ("cluster1", 3)])
def test_a_silent_cable_is_negotiated_anew_each_time_after_twice_the_time(
    peers: Peers, one: Pulse, end: str, waits: int
) -> None:
    cable = load("quickstart", end)
    assert cable.initiates == (waits == 1)
    one.take([cable], {cable.id})
    peers.seconds(one, 5)
    peers.answer, silent_since = False, peers.now
    times = peers.seconds(one, waits * PATIENCE * 5)
    patience = [waits * PATIENCE * factor for factor in (1, 2, 4)]
    assert [at - silent_since for at in times] == patience
    assert peers.lines == [f"{cable.remote.cable_name}: echoes are silent"]
    peers.answer = True
    peers.seconds(one, 10)
    assert peers.lines[1:] == [f"{cable.remote.cable_name}: echoes are answering"]
    peers.answer, silent_since = False, peers.now
    assert peers.seconds(one, waits * PATIENCE + 5) == [silent_since + waits * PATIENCE]


def test_a_cable_that_came_up_again_has_a_new_record(
    peers: Peers, one: Pulse, cable: Cable
) -> None:
    one.take([cable], {cable.id})
    peers.seconds(one, 11)
    one.take([cable], set())
    one.take([cable], {cable.id})
    peers.seconds(one, 1)
    assert health_state.read(time.time())[cable.id].sent == 0


def test_a_look_at_a_cable_that_stays_up_keeps_its_record(
    peers: Peers, one: Pulse, cable: Cable
) -> None:
    one.take([cable], {cable.id})
    peers.seconds(one, 6)
    one.take([cable], {cable.id})
    peers.seconds(one, 5)
    assert health_state.read(time.time())[cable.id].sent == 2


def test_the_echoes_follow_a_file_with_another_version_of_ip(peers: Peers, one: Pulse) -> None:
    for shape in ("transport vxlan v4", "transport vxlan v6"):
        cable = shaped(shape)
        one.take([cable], {cable.id})
        peers.seconds(one, 1)
    assert peers.versions == [{4}, {6}]
    assert peers.sent[-1] == shaped("transport vxlan v6").echo_ends


def test_that_no_echo_can_be_sent_is_told_once(peers: Peers, one: Pulse, cable: Cable) -> None:
    peers.refusal = HostNotReadyError("sending ICMP needs root")
    for _ in range(2):
        one.take([cable], {cable.id})
        assert peers.seconds(one, 5) == []
    assert peers.lines == ["no echoes: sending ICMP needs root"]


def test_a_file_that_cannot_be_written_stops_no_echo(
    peers: Peers, one: Pulse, cable: Cable
) -> None:
    health_state.DIRECTORY.write_text("no directory")
    one.take([cable], {cable.id})
    peers.seconds(one, 16)
    assert len(peers.sent) == 4
    (line,) = peers.lines
    assert line.startswith("status can't read the echoes: ")
    health_state.DIRECTORY.unlink()


def test_at_the_end_the_file_is_removed(peers: Peers, cable: Cable) -> None:
    with Pulse(peers.log, {}) as one:
        one.take([cable], {cable.id})
        peers.seconds(one, 1)
        assert health_state.read(time.time())
    assert not health_state.DIRECTORY.exists()
