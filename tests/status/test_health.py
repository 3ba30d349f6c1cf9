"""The record of echoes: RTT, jitter and loss; when a peer is silent, and which way is dead."""

from dataclasses import dataclass, field
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl.libreswan.pluto import ChildSa
from cablectl.model.cable import Cable
from cablectl.model.health_check import HealthCheck
from cablectl.status import health, state
from cablectl.status.health import WINDOW, EchoRecord, with_health
from cablectl.status.report import Dead, Health, HealthState, Verdict
from tests.support.alive import BLANK, NOW, alive
from tests.support.health import HEALTHS, SILENT

ENDS = ip_address("241.18.0.8"), ip_address("241.18.0.7")
CHECK = HealthCheck()
RTT = 0.05  # seconds
ECHO = 134  # bytes in the SAs
PATIENCE = 5  # seconds, the default interval


def sa(bytes_in: int, bytes_out: int, spi: str = "0x1") -> ChildSa:
    return ChildSa(1, 0, bytes_in, bytes_out, spi, spi, None)


@dataclass
class Cables:
    """Two ends that send echoes through a cable, whose ways can die; time passes in intervals."""

    record: EchoRecord
    interval: int = CHECK.interval
    peer_sends: bool = True
    peer_answers: bool = True
    here: bool = True  # whether this host's packets reach the SAs
    out: bool = True
    into: bool = True
    now: float = 0.0
    bytes_in: int = 1000
    bytes_out: int = 1000
    spi: str = "0x1"
    states: list[HealthState] = field(default_factory=list)

    def passes(self, intervals: int = 1) -> None:
        """Let an echo of each end go in each interval; look and judge at its end."""
        for _ in range(intervals):
            sequence = self.record.sequence
            self.record.sent(self.now)
            self.bytes_out += ECHO * self.here
            asked = self.here and self.out and self.peer_answers
            if asked and self.into:
                self.bytes_in += ECHO
                self.record.answered(sequence, RTT)
            if self.peer_sends and self.into:
                self.bytes_in += ECHO
                self.bytes_out += ECHO * self.here
            self.now += self.interval
            self.record.look([sa(self.bytes_in, self.bytes_out, self.spi)], self.now)
            self.states.append(self.record.state(self.now))

    def told(self) -> tuple[Health, Dead | None]:
        return self.states[-1].health, self.states[-1].dead


@pytest.fixture
def cables() -> Cables:
    return Cables(EchoRecord(CHECK, ENDS))


class TestDirection:
    def test_nothing_is_wrong(self, cables: Cables) -> None:
        cables.passes(300)
        assert {each.health for each in cables.states} == {Health.ANSWERING}
        assert cables.states[-1].silent_for is None

    def test_the_way_to_the_peer_dies(self, cables: Cables) -> None:
        cables.passes(20)
        cables.out = False
        cables.passes(2)
        assert cables.told() == (Health.ANSWERING, None)
        cables.passes()
        assert cables.told() == (Health.SILENT, Dead.OUT)
        assert cables.states[-1].silent_for == 15

    def test_the_way_from_the_peer_dies(self, cables: Cables) -> None:
        cables.passes(20)
        cables.into = False
        cables.passes(3)
        assert cables.told() == (Health.SILENT, Dead.IN)

    def test_both_ways_die_or_the_peer_sends_nothing(self, cables: Cables) -> None:
        cables.peer_sends = False
        cables.passes(20)
        cables.out = False
        cables.passes(3)
        assert cables.told() == (Health.SILENT, Dead.IN)

    def test_nothing_leaves_this_host(self, cables: Cables) -> None:
        for peer_sends in (True, False):
            cables.here, cables.peer_sends = True, peer_sends
            cables.passes(5)
            cables.here = False
            cables.passes(3)
            assert cables.told() == (Health.SILENT, Dead.HERE)

    def test_the_second_way_dies_later(self, cables: Cables) -> None:
        cables.passes(20)
        cables.out = False
        cables.passes(10)
        cables.into = False
        cables.passes(1)
        assert cables.told() == (Health.SILENT, Dead.OUT)
        cables.passes(5)
        assert cables.told() == (Health.SILENT, Dead.IN)

    def test_one_answer_ends_the_silence(self, cables: Cables) -> None:
        cables.passes(2)
        cables.out = False
        cables.passes(7)
        assert cables.told() == (Health.SILENT, Dead.OUT)
        assert cables.states[-1].silent_for == 35
        cables.out = True
        cables.passes()
        assert cables.told() == (Health.ANSWERING, None)

    def test_bytes_of_the_time_before_the_silence_tell_nothing(self) -> None:
        record = EchoRecord(replace(CHECK, threshold=1), ENDS)
        record.look([sa(0, 0)], 0)
        record.sent(1)
        record.answered(0, RTT)
        record.sent(6)  # the last bytes came in before
        record.look([sa(500, 500)], 8)
        assert record.state(11).dead is None
        record.look([sa(500, 600)], 13)
        assert record.state(13).dead is None  # the peer's echo may be due only now
        record.look([sa(500, 700)], 18)
        assert record.state(18).dead is Dead.IN

    @pytest.mark.parametrize(
        ("later", "dead"),
        [
            (sa(500, 500), None),  # no echo was sent between the two looks
            (sa(501, 500), Dead.OUT),
            (sa(9, 0, spi="0x2"), Dead.OUT),  # the first bytes of new SAs
            (sa(0, 9, spi="0x2"), None),
        ],
    )
    def test_between_two_looks(self, later: ChildSa, dead: Dead | None) -> None:
        record = EchoRecord(replace(CHECK, threshold=1), ENDS)
        for sequence in (0, 1):
            record.sent(sequence)
        record.answered(0, RTT)
        record.look([sa(500, 500)], 2)
        record.look([later], 3)
        assert record.state(6).dead is dead

    def test_new_sas_begin_at_nothing(self, cables: Cables) -> None:
        cables.passes(3)
        cables.into = False
        cables.passes(2)
        cables.spi, cables.bytes_in, cables.bytes_out = "0x2", 0, 0
        cables.passes(3)
        assert cables.told() == (Health.SILENT, Dead.IN)
        cables.into, cables.out = True, False
        cables.spi, cables.bytes_in, cables.bytes_out = "0x3", 0, 0
        cables.passes(2)
        assert cables.told() == (Health.SILENT, Dead.OUT)

    def test_without_sas_no_direction_is_named(self) -> None:
        record = EchoRecord(CHECK, ENDS)
        for number in range(10):
            record.sent(number * 5)
            record.look([], number * 5 + 5)
        assert (record.state(50).health, record.state(50).dead) == (Health.SILENT, None)


class TestUnanswering:
    def test_a_peer_that_filters_icmp_is_not_silent(self, cables: Cables) -> None:
        cables.peer_answers = False
        cables.passes(2)
        assert cables.told() == (Health.UNKNOWN, None)
        cables.passes(200)
        assert cables.told() == (Health.UNANSWERING, None)
        cables.peer_sends = False  # it has been heard once
        cables.passes(200)
        assert cables.told() == (Health.UNANSWERING, None)

    def test_a_peer_that_was_never_heard_is_silent(self, cables: Cables) -> None:
        cables.into = False
        cables.passes(3)
        assert cables.told() == (Health.SILENT, Dead.IN)

    def test_a_peer_that_answered_once_is_silent_later(self, cables: Cables) -> None:
        cables.passes()
        cables.peer_answers = False
        cables.passes(WINDOW + 3)
        assert cables.told() == (Health.SILENT, Dead.OUT)
        last = cables.states[-1]
        assert (last.sent, last.answered, last.loss, last.rtt_last) == (104, 1, 1.0, None)


class TestNumbers:
    def test_before_the_first_echo(self) -> None:
        empty = EchoRecord(CHECK, ENDS).state(0)
        assert (empty.health, empty.window, empty.loss) == (Health.UNKNOWN, 0, None)
        assert (empty.source, empty.target, empty.interval) == ("241.18.0.8", "241.18.0.7", 5)

    def test_an_rtt_may_be_longer_than_the_interval(self) -> None:
        record = EchoRecord(HealthCheck(interval=1, threshold=1), ENDS)
        for second in range(20):
            if second >= 2:
                record.answered(second - 2, 2.9)
            record.sent(second)
            assert record.state(second + 0.9).health in (Health.ANSWERING, Health.UNKNOWN)
        told = record.state(19.9)
        assert (told.sent, told.answered, told.window, told.loss) == (20, 18, 18, 0)

    def test_an_answer_that_comes_too_late_still_counts(self) -> None:
        record = EchoRecord(replace(CHECK, threshold=1), ENDS)
        record.sent(0)
        assert record.state(4.9).health is Health.UNKNOWN
        assert (record.state(5).health, record.state(5).loss) == (Health.SILENT, 1)
        record.answered(0, 8)
        assert (record.state(8).health, record.state(8).loss) == (Health.ANSWERING, 0)

    def test_what_answers_twice_or_no_echo_is_ignored(self) -> None:
        record = EchoRecord(CHECK, ENDS)
        record.sent(0)
        for sequence, rtt in ((0, 1), (0, 2), (1, 2), (65535, 2)):
            record.answered(sequence, rtt)
        told = record.state(9)
        assert (told.answered, told.rtt_last, told.rtt_mean, told.jitter) == (1, 1, 1, None)

    def test_the_jitter_is_that_of_the_rfc(self) -> None:
        record = EchoRecord(CHECK, ENDS)
        for sequence, rtt in enumerate((1.0, 1.16, 1.0, 1.0)):
            record.sent(sequence)
            record.answered(sequence, rtt)
        first = 0.16 / 16
        second = first + (0.16 - first) / 16
        assert record.state(9).jitter == pytest.approx(second - second / 16)

    def test_sequence_numbers_begin_again(self) -> None:
        record = EchoRecord(CHECK, ENDS)
        for number in range(health.SEQUENCES + 2):
            sequence = record.sequence
            assert sequence == number % 65536
            record.sent(number)
            record.answered(sequence, RTT)
        told = record.state(number + 1)
        assert (told.sent, told.answered, told.window) == (65538, 65538, WINDOW)

    @given(st.lists(st.none() | st.floats(0, 10), max_size=250), st.integers(1, 100))
    def test_the_window_has_the_last_echoes(self, rtts: list[float | None], threshold: int) -> None:
        record = EchoRecord(HealthCheck(interval=1, threshold=threshold), ENDS)
        for number, rtt in enumerate(rtts):
            record.sent(number)
            if rtt is not None:
                record.answered(number, rtt)
        told, last = record.state(len(rtts) + 3), rtts[-WINDOW:]
        found = [rtt for rtt in last if rtt is not None]
        row = next((i for i, rtt in enumerate(reversed(last)) if rtt is not None), len(last))
        assert (told.sent, told.window) == (len(rtts), len(last))
        assert told.answered == sum(rtt is not None for rtt in rtts)
        assert told.loss == (pytest.approx(1 - len(found) / len(last)) if last else None)
        assert told.rtt_mean == (pytest.approx(sum(found) / len(found)) if found else None)
        assert (told.health is Health.SILENT) == (row >= threshold)
        assert (told.silent_for is None) == (row < threshold)


class TestReport:
    def test_silence_degrades_a_cable_that_is_up(self, cable: Cable) -> None:
        up = state.of(cable, alive(cable), NOW)
        for dead, words in (
            (None, "no echo comes back"),
            (Dead.HERE, "this host's packets don't reach the SAs"),
            (Dead.OUT, "but packets come in: packets to the peer are lost"),
            (Dead.IN, "nothing comes in: packets from the peer are lost"),
        ):
            told = with_health(up, replace(SILENT, dead=dead))
            assert told.verdict is Verdict.DEGRADED
            (reason,) = told.reasons
            assert words in reason
            later = with_health(up, replace(SILENT, dead=dead, silent_for=99))
            assert later.reasons == told.reasons  # else a log has a line each time

    def test_every_other_health_is_only_shown(self, cable: Cable) -> None:
        up = state.of(cable, alive(cable), NOW)
        for each in (None, *HEALTHS):
            if each != SILENT:
                assert with_health(up, each) == replace(up, health=each)

    def test_a_cable_that_is_down_stays_down(self, cable: Cable) -> None:
        down = state.of(cable, BLANK, NOW)
        assert with_health(down, SILENT) == replace(down, health=SILENT)
