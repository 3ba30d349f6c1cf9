"""The state of a cable from facts: one word for it, and every reason why it isn't up."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl.facts.host_facts import Pluto
from cablectl.libreswan.pluto import Ike
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.status import state
from cablectl.status.report import StatusReport, Verdict
from tests.support.alive import (
    BLANK,
    NOW,
    alive,
    name,
    report,
    seen,
    with_connection,
    with_link,
    without_sa,
)
from tests.support.documents import SHAPES, shaped
from tests.support.standing import with_ends


@pytest.mark.parametrize("end", ["cluster1", "cluster2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_up_in_every_shape(shape: str, end: str) -> None:
    cable = shaped(shape, end)
    assert seen(cable, alive(cable)) == (Verdict.UP, ())
    assert connect_plan.plan((cable,), (alive(cable),)).needed == ()


def test_what_is_told_of_one_that_is_up(cable: Cable) -> None:
    told = state.of(cable, alive(cable), NOW)
    assert told.cable == "submariner-cable-cluster2-172-18-0-7"
    assert (told.peer, told.mode, told.ike, told.offload) == (
        "172.18.0.7",
        "transport",
        "established",
        "software",
    )
    assert [each.protects for each in told.connections] == [
        "what the local VTEP receives",
        "what the local VTEP sends",
    ]
    (sa,) = told.connections[1].child_sas
    assert (sa.spi_in, sa.spi_out) == ("0x7027bc01", "0x35f13301")
    assert (sa.age, sa.rekey_in, sa.bytes_in, sa.bytes_out) == (3600, 25200, 824, 1236)
    assert told.overlay
    assert (told.overlay.mtu, told.overlay.largest_mtu) == (1408, 1408)
    assert (told.overlay.vtep, told.overlay.peer_vtep) == ("241.18.0.8/8", "241.18.0.7")
    assert [each.gateway for each in told.overlay.fdb] == ["172.18.0.7"] * 2
    assert told.overlay.routes == ("10.45.0.0/16",)
    assert told.guard
    assert (told.guard.whole, told.guard.dropped_in, told.guard.dropped_out) == (True, 0, 0)


@given(st.sets(st.sampled_from(range(4))), st.sampled_from(SHAPES))
def test_up_only_with_every_child_sa(gone: set[int], shape: str) -> None:
    cable = shaped(shape)
    missing = gone & set(range(len(cable.connections)))
    verdict, _ = seen(cable, without_sa(cable, alive(cable), *missing))
    if not missing:
        assert verdict is Verdict.UP
    elif len(missing) < len(cable.connections):
        assert verdict is Verdict.DEGRADED
    else:
        assert verdict is Verdict.DOWN


class TestNotUp:
    def test_connecting(self, cable: Cable) -> None:
        """One negotiates, for both."""
        facts = without_sa(cable, alive(cable), 0, 1)
        facts = without_sa(cable, facts, 0, ike=Ike.NEGOTIATING)
        verdict, reasons = seen(cable, facts)
        assert verdict is Verdict.CONNECTING
        assert [each.split(" for ")[0] for each in reasons] == [
            "connection 0 has no Child SA",
            "connection 1 has no Child SA",
        ]

    def test_an_ike_sa_alone_carries_nothing(self, cable: Cable) -> None:
        facts = without_sa(cable, alive(cable), 0, 1, ike=Ike.ESTABLISHED)
        assert seen(cable, facts)[0] is Verdict.DOWN

    def test_nothing_is_here(self, cable: Cable) -> None:
        assert seen(cable, BLANK) == (Verdict.DOWN, ("this host has nothing of the cable",))

    def test_a_pluto_that_forgot(self, cable: Cable) -> None:
        """It was started anew; device and guard are still there."""
        facts = replace(alive(cable), connections={}, policies={}, sas=())
        assert seen(cable, facts) == (Verdict.DOWN, ("no connection of the cable is loaded",))

    def test_what_a_killed_pluto_left_goes_on(self, cable: Cable) -> None:
        facts = replace(alive(cable), pluto=Pluto.DOWN, connections={})
        reason = "pluto isn't running, so the SAs aren't renewed"
        assert seen(cable, facts) == (Verdict.DEGRADED, (reason,))
        stopped = replace(facts, policies={}, sas=())
        assert seen(cable, stopped) == (Verdict.DOWN, (reason,))

    def test_clear_text_without_its_device(self) -> None:
        cable = shaped("none vxlan v4")
        facts = with_link(alive(cable), up=False)
        assert seen(cable, facts) == (Verdict.DOWN, ("the device vxlan-tunnel is down",))


def test_a_clock_that_was_set_back(cable: Cable) -> None:
    told = state.of(cable, alive(cable), NOW - 7200)
    assert told.connections[0].child_sas[0].age == 0


class TestRates:
    def later(self, cable: Cable, carried: int, seconds: float) -> StatusReport:
        facts = alive(cable)
        for number in (0, 1):
            loaded = facts.connections[name(cable, number)]
            (sa,) = loaded.child_sas
            sa = replace(sa, bytes_in=sa.bytes_in + carried, bytes_out=sa.bytes_out + 2 * carried)
            facts = with_connection(cable, facts, number, replace(loaded, child_sas=(sa,)))
        return report(state.of(cable, facts, NOW + seconds), time=NOW + seconds)

    def rates(self, report: StatusReport) -> list[tuple[float | None, float | None]]:
        (cable,) = report.cables
        return [(sa.rate_in, sa.rate_out) for each in cable.connections for sa in each.child_sas]

    def test_bytes_a_second(self, cable: Cable) -> None:
        first = report(state.of(cable, alive(cable), NOW))
        assert self.rates(first) == [(None, None)] * 2
        second = state.rated(first, self.later(cable, 1000, 2))
        assert self.rates(second) == [(500.0, 1000.0)] * 2
        # What carries rates already serves as the earlier one as well.
        assert self.rates(state.rated(second, self.later(cable, 1000, 4))) == [(0.0, 0.0)] * 2

    def test_no_rate_of_an_sa_that_is_new_or_of_no_time(self, cable: Cable) -> None:
        after = self.later(cable, 1000, 2)
        assert self.rates(state.rated(report(), after)) == [(None, None)] * 2
        assert self.rates(state.rated(after, after)) == [(None, None)] * 2


def test_a_report_is_up_only_with_a_cable_and_all_of_them(cable: Cable) -> None:
    up = state.of(cable, alive(cable), NOW)
    down = state.of(cable, BLANK, NOW)
    assert report(up).up
    assert report(up, up).up
    assert not report(up, down).up
    assert not report().up


def test_of_an_unknown_cable_no_more_than_the_name_is_told() -> None:
    told = state.unknown("submariner-cable-x", Verdict.DOWN, "why")
    assert (told.cable, told.verdict, told.reasons) == (
        "submariner-cable-x",
        Verdict.DOWN,
        ("why",),
    )
    assert (told.peer, told.mode, told.connections, told.offload) == (None, None, (), "none")


@pytest.mark.parametrize("role", ["gateway", "authority"])
def test_an_expired_certificate_is_a_fault(cable: Cable, role: str) -> None:
    told = state.of(cable, with_ends(alive(cable), ((role, "CN=a", -1),), NOW), NOW)
    assert told.verdict is Verdict.DEGRADED
    (reason,) = told.reasons
    what = "certificate" if role == "gateway" else "authority"
    assert reason.startswith(f"the {what} 'CN=a' is expired since ")
    (one,) = told.certificates
    assert (one.role, one.days_left, one.urgency) == (role, -2, "expired")


@pytest.mark.parametrize(("days", "urgency"), [(31, "none"), (30, "soon"), (7, "urgent")])
def test_a_certificate_that_ends_soon_is_no_fault(cable: Cable, days: int, urgency: str) -> None:
    told = state.of(cable, with_ends(alive(cable), (("gateway", "CN=a", days),), NOW), NOW)
    assert (told.verdict, told.reasons) == (Verdict.UP, ())
    assert [one.urgency for one in told.certificates] == [urgency]
