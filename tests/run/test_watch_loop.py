"""The loop of a watch: when it looks at the host, what it tells, and how it ends."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from itertools import pairwise

import pytest
from msgspec.structs import replace

from cablectl.errors import BusyError, CablectlError
from cablectl.model.cable import Cable
from cablectl.plan import ipsec
from cablectl.run import watch_loop
from cablectl.run.negotiation import JITTER, REFUSED
from cablectl.run.reconciler import Look, Repair
from tests.support.alive import alive
from tests.support.signals import handled
from tests.support.watch_place import Keeper, Place, Play, end, hang_up


@pytest.fixture
def place(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    monkeypatch.setattr(watch_loop, "SETTLE", 0.01)
    with ExitStack() as stack:
        stack.enter_context(handled())
        yield Place(replace(cable, health=None), stack, monkeypatch)


def failing(error: CablectlError) -> Play:
    def play() -> Look:
        raise error

    return play


class TestChanges:
    @pytest.mark.parametrize(
        ("source", "message"),
        [
            ("of_nftables", b"..cablectl_vxlan-tunnel\0.."),
            ("of_network", b"..vxlan-tunnel\0.."),
            ("of_network", b"..\xf1\x12\x00\x07.."),
            ("of_ipsec", b"..\xac\x12\x00\x07.."),
            ("of_settings", b"anything"),
        ],
    )
    def test_a_change_of_the_cable_makes_it_look(
        self, place: Place, source: str, message: bytes
    ) -> None:
        keeper = Keeper(place.cable, place.then(lambda: place.reports(source, message)))
        place.run(keeper)
        assert len(keeper.times) == 2
        assert keeper.times[1] - keeper.times[0] < watch_loop.TICK

    def test_a_change_of_something_else_does_not(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def report() -> None:
            place.reports("of_network", b"..docker0\0..")
            threading.Timer(0.3, end).start()

        keeper = Keeper(place.cable, place.then(report))
        place.run(keeper)
        assert len(keeper.times) == 1

    def test_a_pluto_that_is_started_again_makes_it_look(self, place: Place) -> None:
        def restart() -> None:
            place.pid = "2"
            place.reports("of_ipsec", b"of another")  # it wakes the loop

        keeper = Keeper(place.cable, place.then(restart))
        place.run(keeper)
        assert len(keeper.times) == 2

    def test_without_pluto_nobody_is_asked_and_the_loop_sleeps(self, place: Place) -> None:
        place.pid = ""
        threading.Timer(0.5, end).start()
        place.run(Keeper(place.cable, place.down))
        assert place.asked == 0
        assert place.told.count("WATCHDOG=1") < 20


class TestSignals:
    def test_a_signal_ends_it_and_the_cables_stay(self, place: Place) -> None:
        place.run(Keeper(place.cable, place.then(end)))
        assert place.lines == ["ready", "stopped; the cables stay as they are"]

    def test_sighup_reads_the_file_again(self, place: Place) -> None:
        other = replace(place.cable, guard=False)
        place.reload = lambda: (other,)
        keeper = Keeper(place.cable, place.then(hang_up), place.then(end))
        place.run(keeper)
        assert keeper.taken == (other,)
        assert place.lines[1] == "reloaded the file"
        assert len(keeper.times) == 2

    def test_a_file_with_an_error_changes_nothing(self, place: Place) -> None:
        def reload() -> tuple[Cable, ...]:
            threading.Timer(0.1, end).start()
            raise CablectlError("cable.yaml:3: mode is missing")

        place.reload = reload
        keeper = Keeper(place.cable, place.then(hang_up))
        place.run(keeper)
        assert keeper.taken == (place.cable,)
        assert place.lines[1] == "the cables stay as they are: cable.yaml:3: mode is missing"

    def test_a_signal_during_a_look_ends_it(self, place: Place) -> None:
        def leave() -> Look:
            end()
            raise SystemExit(128 + signal.SIGTERM)

        place.run(Keeper(place.cable, leave))
        assert place.lines[-1] == "stopped; the cables stay as they are"

    def test_a_teardown_of_all_cables_ends_it(self, place: Place) -> None:
        keeper = Keeper(place.cable)
        keeper.plays = [place.then(lambda: setattr(keeper, "alone", True))]
        place.run(keeper)
        assert place.lines == ["ready", "stopped; teardown has removed every cable"]


class TestErrors:
    def test_an_error_is_told_once_and_each_delay_is_twice_the_one_before(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "FAILED", (0.05, 0.2))
        error = CablectlError("ip: no memory", details=["$ ip route", "no memory"])
        keeper = Keeper(place.cable, *[failing(error)] * 5)
        place.run(keeper)
        assert place.lines.count("ip: no memory; $ ip route; no memory") == 1
        gaps = [later - earlier for earlier, later in pairwise(keeper.times)]
        for gap, least in zip(gaps, (0.05, 0.1, 0.2, 0.2, 0.2), strict=True):
            assert gap >= least
        assert gaps[-1] < 0.7  # without a limit it is 0.8

    def test_an_error_that_comes_again_after_a_good_look_is_told_again(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "FAILED", (0.01, 0.02))
        error = CablectlError("no memory")
        good = place.then(lambda: place.reports("of_settings", b"changed"))
        place.run(Keeper(place.cable, failing(error), good, failing(error)))
        assert place.lines.count("no memory") == 2

    def test_what_failed_of_several_cables_is_told_and_tried_again(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "FAILED", (0.01, 0.02))
        look = replace(place.whole(), errors=(CablectlError("it broke"),))
        keeper = Keeper(place.cable, lambda: look, lambda: look)
        place.run(keeper)
        assert (len(keeper.times), place.lines.count("it broke")) == (3, 1)

    def test_a_child_sa_too_many_is_looked_at_when_it_may_go(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The kernel reports only its beginning."""
        monkeypatch.setattr(ipsec, "FORGOTTEN", 25.2)
        whole = alive(place.cable)
        name = place.cable.connections[0].name
        loaded = whole.connections[name]
        (first,) = loaded.child_sas
        second = replace(first, serial=first.serial + 10)
        double = replace(loaded, child_sas=(first, second), age=25.0)
        facts = replace(whole, connections=whole.connections | {name: double})
        keeper = Keeper(place.cable, lambda: Look((place.cable,), (facts,)))
        place.run(keeper)
        assert len(keeper.times) == 2
        assert keeper.times[1] - keeper.times[0] >= 0.2

    def test_another_cablectl_at_work_is_no_error(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "TICK", 0.02)
        keeper = Keeper(place.cable, failing(BusyError("another cablectl is at work")))
        place.run(keeper)
        assert len(keeper.times) == 2
        assert place.lines == ["ready", "stopped; the cables stay as they are"]


class TestCables:
    def test_a_repair_is_told_and_its_fields_go_to_the_journal(self, place: Place) -> None:
        repair = Repair(place.cable.id, "cable2", ("a route is missing",), ("up",), 0.25)
        place.run(Keeper(place.cable, place.then(end, look=lambda: with_repair(place, repair))))
        assert place.lines[0] == "cable2: a route is missing; mended in 0.2 s"
        assert place.fields[0] == {
            "cable": "cable2",
            "reason": "a route is missing",
            "repair": "up",
        }

    def test_a_cable_that_goes_down_and_comes_up_is_told(self, place: Place) -> None:
        place.up = frozenset()

        def rise() -> None:
            place.up = place.cable.names

        place.run(Keeper(place.cable, place.then(rise, look=place.down), place.then(end)))
        name = place.cable.remote.cable_name
        assert place.lines[0] == f"{name} has no Child SA for each connection"
        assert place.lines[2] == f"{name} is up, after 0 s"
        assert "STATUS=0 of 1 cables are up" in place.told
        assert "STATUS=1 of 1 cables are up" in place.told

    def test_a_cable_that_waits_in_vain_is_negotiated_anew(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "ASK", 0.001)
        place.up = frozenset()
        keeper = Keeper(place.cable, place.down, place.down)
        place.run(keeper)
        assert keeper.silent[1] == {place.cable.id}
        assert place.asked > 10  # the end that waits gives the peer time

    def test_on_a_busy_host_the_peer_gets_as_many_looks(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "ASK", 0.001)
        place.up, place.takes = frozenset(), 0.02
        place.run(Keeper(place.cable, place.down, place.down))
        assert place.asked > 10

    def test_each_attempt_gets_twice_the_time_also_after_many(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "ASK", 0.001)
        monkeypatch.setattr(watch_loop, "PART", 0)
        place.up, asked = frozenset(), [0]
        plays = [place.then(lambda: asked.append(place.asked), look=place.down) for _ in range(6)]
        place.run(Keeper(place.cable, *plays))
        first, *_, last = [later - earlier for earlier, later in pairwise(asked[1:])]
        assert last > 6 * first

    def test_pluto_is_asked_ever_less_often_while_a_cable_waits(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(watch_loop, "ASK", 0.01)
        monkeypatch.setattr(watch_loop, "PART", 0.5)
        place.up = frozenset()
        threading.Timer(1, end).start()
        keeper = Keeper(place.cable, *[place.down] * 20)
        place.run(keeper)
        assert 3 < place.asked < 30
        assert len(keeper.times) > 2  # a question counts for the time since the last one

    def test_the_end_that_waits_asks_soon_after_a_restart_of_its_pluto(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The peer takes the cable for up."""
        for name in ("ASK", "ASK_SELDOM"):
            monkeypatch.setattr(watch_loop, name, 0.001)
        assert not place.cable.initiates

        def restart() -> None:
            place.pid, place.up, place.asked = "2", frozenset(), 0
            place.reports("of_settings", b"changed")

        keeper = Keeper(place.cable, place.then(restart), place.down)
        place.run(keeper)
        assert keeper.silent[2] == {place.cable.id}
        assert place.asked <= REFUSED + JITTER + 3

    def test_a_restart_after_which_the_cable_was_up_is_forgotten(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("ASK", "ASK_SELDOM"):
            monkeypatch.setattr(watch_loop, name, 0.001)

        def restart() -> None:
            place.pid = "2"
            place.reports("of_settings", b"changed")

        def fall() -> None:
            place.up, place.asked = frozenset(), 0

        def change() -> None:
            place.reports("of_settings", b"changed")

        later = place.then(lambda: threading.Timer(0.3, change).start())
        keeper = Keeper(place.cable, place.then(restart), later, place.then(fall, look=place.down))
        place.run(keeper)
        assert keeper.silent[-1] == {place.cable.id}
        assert place.asked > REFUSED + JITTER + 3

    def test_a_cable_that_the_file_no_longer_has_is_not_awaited(
        self, place: Place, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("ASK", "ASK_SELDOM"):
            monkeypatch.setattr(watch_loop, name, 0.02)
        place.up = frozenset()

        def forget() -> Look:
            place.up = place.cable.names
            threading.Timer(0.3, end).start()
            return Look()

        change = place.then(lambda: place.reports("of_settings", b"changed"), look=place.down)
        keeper = Keeper(place.cable, change, forget)
        place.run(keeper)
        assert len(keeper.times) == 2


def with_repair(place: Place, repair: Repair) -> Look:
    return replace(place.whole(), repairs=(repair,))
