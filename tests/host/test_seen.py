"""Which cables a host has, from what its tools print; pytest-subprocess stands in for the tools."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace
from pytest_subprocess import FakeProcess

from cablectl.errors import HostNotReadyError, TimeLimitError
from cablectl.host import cables, daemon, ipsec_state
from cablectl.libreswan import pluto, secrets_file
from cablectl.libreswan.pluto import LoadedConnection
from cablectl.linux import guard
from cablectl.model.cable import Cable
from cablectl.status import state
from cablectl.status.report import CableState, ConnectionState, StatusReport, Verdict
from tests.support.alive import BLANK, NOW, alive, report
from tests.support.documents import shaped

NAME = "submariner-cable-cluster2-172-18-0-7"


@pytest.fixture
def up(gateway: FakeProcess, here: Cable, monkeypatch: pytest.MonkeyPatch) -> FakeProcess:
    """The gateway of the facts' own tests, with secret and guard, to be read more than once."""
    gateway.keep_last_process(True)
    Path(secrets_file.path(here)).write_bytes(secrets_file.content(here, b"correct horse battery"))
    monkeypatch.setattr(ipsec_state, "guard_of", guard.made)
    return gateway


def loaded(monkeypatch: pytest.MonkeyPatch, connections: dict[str, LoadedConnection]) -> None:
    monkeypatch.setattr(daemon, "pluto_status", lambda: pluto.Status(connections))


@pytest.mark.usefixtures("up")
class TestOnAGateway:
    def test_of_a_file_and_of_the_host_it_is_the_same(self, here: Cable) -> None:
        (one,) = cables.report_of((here,)).cables
        (other,) = cables.report_of_all().cables
        assert one.cable == NAME
        assert (one.verdict, one.reasons) == (Verdict.UP, ())
        assert [len(each.child_sas) for each in one.connections] == [1, 1]
        assert one.overlay
        assert one.overlay.routes == ("10.45.0.0/16",)
        # Its age is a second more, if the clock ticks in between.
        assert without_ages(one) == without_ages(other)

    def test_the_errors_of_the_kernel_are_the_hosts(
        self, here: Cable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ipsec_state, "ERRORS", tmp_path / "xfrm_stat")
        assert cables.report_of((here,)).xfrm_errors is None
        ipsec_state.ERRORS.write_text("XfrmInNoStates          \t17\n")
        assert cables.report_of((here,)).xfrm_errors == {"XfrmInNoStates": 17}

    def test_one_that_pluto_forgot_is_known_by_its_secret(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        loaded(monkeypatch, {})
        (told,) = cables.report_of_all().cables
        assert told == state.unknown(NAME, Verdict.DOWN, "no connection of the cable is loaded")

    def test_so_it_is_while_pluto_is_dead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(daemon, "pluto_status", lambda: None)
        (told,) = cables.report_of_all().cables
        assert told == state.unknown(NAME, Verdict.DOWN, "pluto isn't running")

    def test_a_dead_pluto_and_no_secret(self, monkeypatch: pytest.MonkeyPatch, here: Cable) -> None:
        Path(secrets_file.path(here)).unlink()
        monkeypatch.setattr(daemon, "pluto_status", lambda: None)
        with pytest.raises(HostNotReadyError, match="pluto isn't running"):
            cables.report_of_all()

    def test_the_cables_of_others_are_none(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Not even with a secret beside ours; one that bears our names is foreign, and told."""
        connections = iter(alive_connections())
        loaded(monkeypatch, {"road-warrior": next(connections)})
        Path(secrets_file.DIRECTORY, "vpn.secrets").touch()
        assert [each.cable for each in cables.report_of_all().cables] == [NAME]
        loaded(monkeypatch, {"submariner-cable-x-0-0": next(connections)})
        first, second = cables.report_of_all().cables
        assert (first.cable, second.cable) == (NAME, "submariner-cable-x")
        assert (second.verdict, second.connections) == (Verdict.FOREIGN, ())


def alive_connections() -> Iterator[LoadedConnection]:
    yield from alive(shaped("tunnel v4")).connections.values()


def without_ages(cable: CableState) -> CableState:
    def ageless(connection: ConnectionState) -> ConnectionState:
        sas = tuple(replace(sa, age=0) for sa in connection.child_sas)
        return replace(connection, child_sas=sas)

    return replace(cable, connections=tuple(map(ageless, cable.connections)))


def test_only_root(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    for read in (cables.report_of_all, lambda: cables.report_of((cable,))):
        with pytest.raises(HostNotReadyError, match="only root"):
            read()


class TestAgainAndAgain:
    @pytest.fixture(autouse=True)
    def slept(self, monkeypatch: pytest.MonkeyPatch) -> list[float]:
        slept: list[float] = []
        monkeypatch.setattr(time, "sleep", slept.append)
        return slept

    def test_rates_from_the_second_on(self, cable: Cable, slept: list[float]) -> None:
        reports = iter(
            report(state.of(cable, alive(cable), NOW + late), time=NOW + late) for late in (0, 2, 4)
        )
        looks = cables.again_and_again(lambda: next(reports))
        rates = [self.rates(next(looks)) for _ in range(3)]
        assert rates == [{None}, {0.0}, {0.0}]
        assert slept == [2, 2]

    def rates(self, look: object) -> set[float | None]:
        assert isinstance(look, StatusReport)
        return {
            sa.rate_in
            for each in look.cables
            for connection in each.connections
            for sa in connection.child_sas
        }

    def test_the_first_error_is_raised_and_a_later_one_told(self, cable: Cable) -> None:
        error = TimeLimitError("no answer in 5 s from: ipsec whack --status")
        good = report(state.of(cable, BLANK, NOW))
        answers: Iterator[StatusReport | TimeLimitError] = iter([error, good, error, good])

        def read() -> StatusReport:
            answer = next(answers)
            if isinstance(answer, TimeLimitError):
                raise answer
            return answer

        with pytest.raises(TimeLimitError):
            next(cables.again_and_again(read))
        looks = cables.again_and_again(read)
        told = [next(looks) for _ in range(3)]
        assert told == [good, error, good]
