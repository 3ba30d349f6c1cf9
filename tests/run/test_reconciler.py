"""What a watch mends of its cables, and which cables it leaves alone."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.facts.host_facts import Facts
from cablectl.host import rotation_state
from cablectl.host.rotation_state import Standing
from cablectl.libreswan.pluto import FORGOTTEN, ChildSa
from cablectl.linux import watch_file
from cablectl.model.cable import Cable
from cablectl.model.rotation import RotationPhase
from cablectl.model.wishes import Routes
from cablectl.plan.steps import Phase
from cablectl.run import journal
from cablectl.run.reconciler import DELETED, OFTEN, PERIOD, SILENT, Reconciler
from tests.support.alive import without_sa
from tests.support.executor import Told
from tests.support.mesh_host import Host
from tests.support.meshes import there
from tests.support.plans import BLANK
from tests.support.watched import Readings, in_own_folder, unrouted

Cables = tuple[Cable, ...]


@pytest.fixture
def readings(monkeypatch: pytest.MonkeyPatch, host: Host) -> Readings:
    in_own_folder(monkeypatch)
    return Readings(monkeypatch)


@pytest.fixture
def whole(cables: Cables) -> tuple[Facts, ...]:
    return there(cables, cables)


@pytest.fixture
def watch(cables: Cables, readings: Readings) -> Iterator[Reconciler]:
    with closing(Reconciler(cables, Told())) as made:
        yield made


def file(cable: Cable) -> Path:
    return Path(watch_file.path(cable))


def torn_down(cables: Cables) -> tuple[Facts, ...]:
    """Return the facts after a teardown of the first cable; a shared table keeps its subnets."""
    shared = there(cables, cables)[0].mss
    return tuple(replace(found, mss=shared) for found in there(cables, cables[1:]))


class TestChangedFile:
    def test_what_connect_has_applied_is_not_set_back(
        self, cables: Cables, readings: Readings, host: Host
    ) -> None:
        changed = tuple(replace(each, routes=Routes(table=77)) for each in cables)
        files = [changed]
        watch = Reconciler(cables, Told(), lambda: files.pop() if files else ())
        readings.are(there(changed, changed))
        with closing(watch):
            assert watch.look().repairs == ()
            assert watch.cables == changed
            assert host.log == []

    def test_what_nobody_has_applied_waits_for_a_reload(
        self, cables: Cables, readings: Readings, whole: tuple[Facts, ...], host: Host
    ) -> None:
        changed = tuple(replace(each, routes=Routes(table=77)) for each in cables)
        watch = Reconciler(cables, Told(), lambda: changed)
        readings.are(whole)
        with closing(watch):
            assert watch.look().repairs == ()
            assert watch.cables == cables
            assert host.log == []
            watch.take(changed)
            assert watch.cables == changed


class TestMending:
    def test_what_is_whole_is_left(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...], host: Host
    ) -> None:
        readings.are(whole)
        look = watch.look()
        assert (look.repairs, look.errors, host.log) == ((), (), [])
        assert look.up == {cable.id for cable in watch.cables}

    def test_a_missing_route_is_mended_by_its_own_step(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...], host: Host
    ) -> None:
        first, second = whole
        readings.are((unrouted(first), second), whole)
        (repair,) = watch.look().repairs
        assert (repair.id, repair.kinds) == (watch.cables[0].id, (Phase.UP.label,))
        assert repair.cable == watch.cables[0].remote.cable_name
        assert any("route" in reason for reason in repair.reasons)
        subnets = [line.removeprefix("ip route add ").split()[0] for line in host.log]
        assert subnets == ["10.44.0.0/16", "100.44.0.0/16"]

    def test_a_cable_without_child_sas_gets_no_overlay(
        self, watch: Reconciler, readings: Readings, host: Host
    ) -> None:
        cables = watch.cables
        loaded = tuple(
            without_sa(cable, found, 0, 1)
            for cable, found in zip(cables, there(cables, cables), strict=True)
        )
        readings.are((BLANK,) * 2, loaded)
        look = watch.look()
        assert {kind for repair in look.repairs for kind in repair.kinds} >= {"guard", "add"}
        assert not any("ip link add" in line or "ip route add" in line for line in host.log)
        assert any("--initiate" in line for line in host.log)
        assert look.up == set()

    def test_a_silent_cable_is_negotiated_anew(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...], host: Host
    ) -> None:
        first, _ = watch.cables
        readings.are(whole)
        (repair,) = watch.look({first.id}).repairs
        assert (repair.id, repair.reasons) == (first.id, (SILENT,))
        for verb in ("--delete", "--initiate"):
            asked = [line.split() for line in host.log if verb in line]
            assert {words[words.index("--name") + 1] for words in asked} == first.names

    @pytest.mark.parametrize("is_down", [True, False])
    def test_a_cable_that_is_negotiated_often_keeps_nothing_from_being_mended(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...], *, is_down: bool
    ) -> None:
        first, second = whole
        fallen = (without_sa(watch.cables[0], first, 0, 1), second)
        asked = {watch.cables[0].id}
        for _ in range(OFTEN):
            readings.are(fallen if is_down else whole)
            found = watch.look(down=asked) if is_down else watch.look(asked)
            assert found.repairs
        assert watch.contested == ""

    def test_a_child_sa_that_pluto_does_not_delete_ends_with_its_connections(
        self,
        watch: Reconciler,
        readings: Readings,
        whole: tuple[Facts, ...],
        host: Host,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        first, second = whole
        name, loaded = next(iter(first.loaded(watch.cables[0]).items()))
        two = ChildSa(7, 1000, 0, 0), ChildSa(9, 1001, 0, 0)
        doubled = replace(loaded, child_sas=two, serials=(7, 9), age=FORGOTTEN)
        facts = replace(first, connections={**first.connections, name: doubled})
        clock, later = time.monotonic, 0.0
        monkeypatch.setattr(time, "monotonic", lambda: clock() + later)
        kinds = []
        for later in (0, 60, DELETED + 1):
            readings.are((facts, second), whole if later > DELETED else (facts, second))
            kinds.append([repair.kinds for repair in watch.look().repairs])
        assert kinds == [[("retire",)], [], [("add", "initiate")]]
        assert host.log.count("whack --deletestate 7 --asynchronous") == 1
        assert len([line for line in host.log if "--delete " in line]) == 2

    def test_what_failed_is_an_error_and_no_repair(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...], host: Host
    ) -> None:
        second = watch.cables[1]
        broken = tuple(map(unrouted, whole))
        host.fails("ip route add 10.44.0.0/16")
        readings.are(broken, (unrouted(whole[0]), whole[1]))
        look = watch.look()
        assert [repair.id for repair in look.repairs] == [second.id]
        assert [error.details[-1] for error in look.errors] == ["it broke"]

    def test_a_host_that_cannot_be_read_is_an_error(
        self, watch: Reconciler, readings: Readings
    ) -> None:
        readings.are(CablectlError("pluto is too busy"))
        with pytest.raises(CablectlError, match="too busy"):
            watch.look()

    def test_beside_another_cablectl_nothing_is_done(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...]
    ) -> None:
        readings.are(whole)
        with (
            journal.held({watch.cables[0].bundle}, 0, pytest.fail),
            pytest.raises(TimeLimitError, match="another cablectl"),
        ):
            watch.look()


class TestLeftAlone:
    def test_what_was_mended_often_is_left_for_a_while_but_not_the_guard(
        self,
        watch: Reconciler,
        readings: Readings,
        whole: tuple[Facts, ...],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        first, second = whole
        clock, later = time.monotonic, 0.0
        monkeypatch.setattr(time, "monotonic", lambda: clock() + later)
        for _ in range(OFTEN):
            readings.are((unrouted(first), second), whole)
            assert watch.look().repairs
        readings.are((unrouted(first), second))
        assert watch.look().repairs == ()
        assert "up was mended 5 times" in watch.contested
        unguarded = tuple(replace(each, guard=None) for each in whole)
        readings.are(unguarded, whole)
        assert [repair.kinds for repair in watch.look().repairs] == [("guard",)]
        later = PERIOD
        assert watch.contested == ""
        readings.are((unrouted(first), second), whole)
        assert [repair.id for repair in watch.look().repairs] == [watch.cables[0].id]

    def test_a_cable_that_was_torn_down_is_left_until_connect(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...], host: Host
    ) -> None:
        gone = watch.cables[0]
        file(gone).unlink()
        readings.are(torn_down(watch.cables))
        assert watch.look().repairs == ()
        assert host.log == []
        assert not file(gone).exists()
        readings.are(whole)  # connect
        watch.look()
        assert file(gone).exists()
        readings.are((unrouted(whole[0]), whole[1]), whole)
        assert [repair.id for repair in watch.look().repairs] == [gone.id]

    def test_while_a_teardown_works_its_cable_is_not_taken_again(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...]
    ) -> None:
        gone = watch.cables[0]
        file(gone).unlink()
        # At the second reading, under the locks, the cable is gone.
        readings.are(whole, torn_down(watch.cables))
        watch.look()
        assert not file(gone).exists()

    def test_a_cable_that_another_watch_took_is_left(
        self, watch: Reconciler, readings: Readings, whole: tuple[Facts, ...]
    ) -> None:
        file(watch.cables[0]).unlink()
        readings.are(whole)
        with closing(Reconciler(watch.cables[:1], Told())):
            for _ in range(2):
                watch.look()
        watch.look()
        assert file(watch.cables[0]).exists()

    def test_a_teardown_of_every_cable_ends_the_watch(self, watch: Reconciler) -> None:
        for cable in watch.cables:
            assert not watch.is_alone
            file(cable).unlink()
        assert watch.is_alone

    def test_a_cable_whose_key_is_rotated_is_left(
        self,
        watch: Reconciler,
        readings: Readings,
        whole: tuple[Facts, ...],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        first, second = watch.cables
        standings = (
            Standing(first, first, RotationPhase.MOVED),
            Standing(second, second, RotationPhase.NONE),
        )
        monkeypatch.setattr(rotation_state, "standings", lambda _: standings)
        broken = tuple(map(unrouted, whole))
        readings.are(broken, (broken[0], whole[1]))
        assert [repair.id for repair in watch.look().repairs] == [second.id]


class TestHolds:
    def test_two_watches_do_not_keep_one_cable(self, watch: Reconciler, cables: Cables) -> None:
        with pytest.raises(HostNotReadyError, match=r"another cablectl watch .* holds the cable"):
            Reconciler(cables, Told())
        assert all(file(cable).exists() for cable in cables)

    def test_a_watch_that_is_refused_leaves_no_file(
        self, cables: Cables, readings: Readings
    ) -> None:
        with (
            closing(Reconciler(cables[1:], Told())),
            pytest.raises(HostNotReadyError, match="another cablectl watch"),
        ):
            Reconciler(cables, Told())
        assert not file(cables[0]).exists()

    def test_a_changed_file_is_taken(self, watch: Reconciler, cables: Cables) -> None:
        first, second = cables
        watch.take((second,))
        assert not file(first).exists()
        assert watch.cables == (second,)
        watch.take((first,))
        assert (file(first).exists(), file(second).exists()) == (True, False)

    def test_at_the_end_no_file_is_left(self, watch: Reconciler, cables: Cables) -> None:
        watch.close()
        assert not any(file(cable).exists() for cable in cables)
