"""The file in which a watch leaves what echoes tell, and the status that reads it."""

import time
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.host import cables, health_state
from cablectl.model.cable import Cable
from cablectl.status import state
from cablectl.status.report import CableState, HealthState, StatusReport, Verdict
from tests.support.alive import NOW, alive
from tests.support.health import ANSWERING, HEALTHS, SILENT, UNKNOWN

IDS = [f"cluster{number}-172-18-0-{number}" for number in range(len(HEALTHS))]


def names() -> list[str]:
    return sorted(path.name for path in health_state.DIRECTORY.glob("*"))


def test_what_is_written_is_read_until_three_intervals_later() -> None:
    written = dict(zip(IDS, HEALTHS, strict=True))
    health_state.write("one", written, NOW)
    for age in (-15.0, 0.0, 15.0):
        assert health_state.read(NOW + age) == written
    for age in (-15.1, 15.1):
        assert health_state.read(NOW + age) == {}
    assert names() == ["one.health"]
    assert (health_state.DIRECTORY / "one.health").stat().st_mode & 0o777 == 0o600
    assert health_state.DIRECTORY.stat().st_mode & 0o777 == 0o700


def test_each_cable_has_its_own_interval() -> None:
    slow = replace(ANSWERING, interval=3600)
    health_state.write("one", {IDS[0]: slow, IDS[1]: SILENT}, NOW)
    assert health_state.read(NOW + 10_000) == {IDS[0]: slow}


def test_of_two_watches_the_newer_state_counts() -> None:
    health_state.write("b", {IDS[0]: SILENT, IDS[1]: UNKNOWN}, NOW)
    health_state.write("a", {IDS[0]: ANSWERING}, NOW + 1)
    assert health_state.read(NOW + 2) == {IDS[0]: ANSWERING, IDS[1]: UNKNOWN}
    health_state.write("b", {IDS[0]: UNKNOWN}, NOW + 2)
    assert health_state.read(NOW + 2) == {IDS[0]: UNKNOWN}


def test_a_watch_that_ends_leaves_nothing() -> None:
    health_state.write("one", {}, NOW)
    health_state.write("two", {}, NOW)
    health_state.remove("one")
    assert names() == ["two.health"]
    health_state.remove("two")
    assert not health_state.DIRECTORY.exists()
    health_state.remove("two")


@pytest.mark.parametrize(
    "content", ["", "{", "[]", '{"time": 1}', '{"time": 1, "cables": {"a": 1}}']
)
def test_a_broken_file_is_ignored(content: str) -> None:
    health_state.write("one", {IDS[0]: SILENT}, NOW)
    (health_state.DIRECTORY / "two.health").write_text(content)
    (health_state.DIRECTORY / "three.health").mkdir()
    assert health_state.read(NOW) == {IDS[0]: SILENT}


def test_a_file_that_cannot_be_written_is_named() -> None:
    health_state.write("one", {}, NOW)
    (health_state.DIRECTORY / "two.health").mkdir()
    with pytest.raises(HostNotReadyError, match=r"two\.health"):
        health_state.write("two", {}, NOW)
    assert names() == ["one.health", "two.health"]


def merged(
    states: Iterable[CableState], health: HealthState, monkeypatch: pytest.MonkeyPatch
) -> StatusReport:
    """Return the report of cables, after a watch has written the health of the first one."""
    first, *_ = found = list(states)
    monkeypatch.setattr(time, "time", lambda: NOW)
    health_state.write("one", {first.cable.removeprefix("submariner-cable-"): health}, NOW - 1)
    return cables._report(found)


def test_status_shows_the_health_of_its_cables(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    up = state.of(cable, alive(cable), NOW)
    other = replace(up, cable="submariner-cable-other-10-0-0-1")
    told = merged((up, other), SILENT, monkeypatch)
    silent, without = told.cables
    assert (silent.cable, silent.verdict, silent.health) == (up.cable, Verdict.DEGRADED, SILENT)
    assert without == other
    assert not told.up
    assert merged((up,), ANSWERING, monkeypatch).up
