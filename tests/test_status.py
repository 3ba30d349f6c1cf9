"""The state of a cable from facts: one word for it, and every reason why it isn't up."""

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl import facts as facts_module
from cablectl import overlay, xfrm
from cablectl.cable import Cable
from cablectl.errors import HostNotReadyError
from cablectl.facts import Facts, Pluto, Secret
from cablectl.guard import Guard
from cablectl.libreswan import Version
from cablectl.model import Geneve, Vxlan
from cablectl.mtu import AES_GCM, Cipher
from cablectl.offload import Nic
from cablectl.plan import connect
from cablectl.pluto import ChildSa, Ike, LoadedConnection, Shunt
from cablectl.status import CableState, Report, Verdict, state
from cablectl.xfrm import Policy, SecurityAssociation
from tests.conftest import load
from tests.documents import SHAPES, shaped

NOW = 1_795_548_000.25
BLANK = Facts(libreswan=Version(4, 10), nic=Nic("eth0"))


def alive(cable: Cable) -> Facts:
    """Return the facts of a host on which all of the cable is there, an hour after connect."""
    size = connect.overlay_mtu(cable, BLANK, cable.overlay) if cable.overlay else 1500
    made = facts_module.connected(cable, BLANK, size)
    connections: dict[str, LoadedConnection] = {}
    policies: dict[Policy, int] = {}
    sas: list[SecurityAssociation] = []
    for number, each in enumerate(cable.connections):
        reqid = 16389 + 4 * number
        policies |= dict.fromkeys(xfrm.policies(each), reqid)
        pair = (f"0x7027bc{number:02x}", f"0x35f133{number:02x}")
        sa = ChildSa(number + 2, int(NOW) - 3600, 824, 1236, *pair, 25200)
        ike = Ike.NONE if number else Ike.ESTABLISHED
        connections[each.name] = replace(made.connections[each.name], child_sas=(sa,), ike=ike)
        ends = (str(cable.remote_host), str(cable.local.address))
        for spi, (source, target) in zip(pair, (ends, ends[::-1]), strict=True):
            sas.append(
                SecurityAssociation(
                    source, target, "esp", spi, reqid, encapsulated=True, cipher=AES_GCM
                )
            )
    return replace(made, connections=connections, policies=policies, sas=tuple(sas))


def report(*cables: CableState, time: float = NOW) -> Report:
    return Report(version=1, time=time, cables=cables)


def seen(cable: Cable, facts: Facts) -> tuple[Verdict, tuple[str, ...]]:
    told = state.of(cable, facts, NOW)
    return told.verdict, told.reasons


def name(cable: Cable, number: int) -> str:
    return cable.connections[number].name


def with_connection(
    cable: Cable, facts: Facts, number: int, connection: LoadedConnection | None
) -> Facts:
    others = {each: it for each, it in facts.connections.items() if each != name(cable, number)}
    added = {} if connection is None else {name(cable, number): connection}
    return replace(facts, connections=others | added)


def without_sa(cable: Cable, facts: Facts, *numbers: int, ike: Ike = Ike.NONE) -> Facts:
    for number in numbers:
        loaded = facts.connections[name(cable, number)]
        idle = replace(loaded, up=False, child_sas=(), ike=ike)
        facts = with_connection(cable, facts, number, idle)
    return facts


def with_link(facts: Facts, **changes: object) -> Facts:
    assert facts.overlay.link
    link = replace(facts.overlay.link, **changes)
    return replace(facts, overlay=replace(facts.overlay, link=link))


@pytest.mark.parametrize("end", ["cluster1", "cluster2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_up_in_every_shape(shape: str, end: str) -> None:
    cable = shaped(shape, end)
    assert seen(cable, alive(cable)) == (Verdict.UP, ())
    assert connect.plan(cable, alive(cable)).needed == ()


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


Change = Callable[[Cable, Facts], Facts]


def less(part: str) -> Change:
    """Return a change that takes one entry of the overlay's away."""

    def change(_: Cable, facts: Facts) -> Facts:
        entries = sorted(getattr(facts.overlay, part))
        return replace(facts, overlay=replace(facts.overlay, **{part: frozenset(entries[1:])}))

    return change


# What is wrong, and the beginning of the one reason that is told.
FAULTS: dict[str, tuple[Change, str]] = {
    "one Child SA of two": (
        lambda cable, facts: without_sa(cable, facts, 1),
        "connection 1 has no Child SA for what the local VTEP sends",
    ),
    "the other one": (
        lambda cable, facts: without_sa(cable, facts, 0, ike=Ike.NEGOTIATING),
        "connection 0 has no Child SA for what the local VTEP receives; pluto negotiates",
    ),
    "a connection that isn't loaded": (
        lambda cable, facts: with_connection(cable, facts, 0, None),
        "connection 0 isn't loaded",
    ),
    "SAs that were flushed": (
        lambda cable, facts: with_connection(
            cable,
            facts,
            0,
            replace(facts.connections[name(cable, 0)], up=False, child_sas=(), lost=True),
        ),
        "connection 0 has no SA in the kernel, though pluto believes so",
    ),
    "a policy that was flushed": (
        lambda cable, facts: replace(
            facts,
            policies={
                each: reqid
                for each, reqid in facts.policies.items()
                if each != xfrm.policies(cable.connections[1])[0]
            },
        ),
        "connection 1 has no policy in the kernel, though pluto believes so",
    ),
    "the secret": (
        lambda _, facts: replace(facts, secret=Secret.ABSENT),
        "the secret /etc/ipsec.d/cablectl-cluster2-172-18-0-7.secrets is missing",
    ),
    "no guard": (
        lambda _, facts: replace(facts, guard=None),
        "the guard is gone: table inet cablectl_cluster2-172-18-0-7",
    ),
    "half a guard": (
        lambda _, facts: replace(facts, guard=Guard(comments=("cablectl",))),
        "the guard isn't whole",
    ),
    "no device": (
        lambda _, facts: replace(facts, overlay=facts_module.OverlayFacts(rule=True)),
        "the device vxlan-tunnel is missing",
    ),
    "device down": (
        lambda _, facts: with_link(facts, up=False),
        "the device vxlan-tunnel is down",
    ),
    "no address": (
        lambda _, facts: with_link(facts, addresses=frozenset({"fe80::1/64"})),
        "vxlan-tunnel has no address 241.18.0.8/8",
    ),
    "an FDB entry": (
        less("fdb"),
        "the FDB of vxlan-tunnel sends nothing for 00:00:00:00:00:00 to 172.18.0.7",
    ),
    "the neighbour": (less("neighbours"), "vxlan-tunnel has no neighbour 241.18.0.7"),
    "the route": (less("routes"), "there is no route to 10.45.0.0/16 over vxlan-tunnel"),
    "a route from elsewhere": (
        lambda _, facts: replace(facts, source="10.44.0.1"),
        "the route to 10.45.0.0/16 speaks from another address than 10.44.0.1",
    ),
    "the rule": (
        lambda _, facts: replace(facts, overlay=replace(facts.overlay, rule=False)),
        "no rule has table 100 looked up",
    ),
    "a setting": (less("settings"), "/proc/sys/net/ipv4/conf/vxlan-tunnel/forwarding isn't 1"),
    "too large an MTU": (
        lambda _, facts: with_link(facts, mtu=1409),
        "the MTU 1409 is larger than the 1408 that path and SAs carry",
    ),
    "a path that became narrower": (
        lambda _, facts: replace(facts, path_mtu=1400),
        "the MTU 1408 is larger than the 1308 that path and SAs carry",
    ),
}
# What connect doesn't mend, since pluto has to.
OUTSIDE: dict[str, tuple[Change, str]] = {
    "a shunt": (
        lambda _, facts: replace(
            facts,
            shunts=(
                Shunt("172.18.0.8/32", "172.18.0.7/32", "hold"),
                Shunt("172.18.0.8/32", "172.18.0.9/32", "pass"),
                Shunt("2001:db8::8/128", "2001:db8::7/128", "pass"),
                Shunt("172.18.0.8/32", "172.18.0.7/32", "pass"),
            ),
        ),
        "pluto lets 172.18.0.8/32 to 172.18.0.7/32 pass in clear text",
    ),
    "no way to the peer": (
        lambda _, facts: replace(facts, nic=None),
        "there is no route to the peer",
    ),
}


@pytest.mark.parametrize("fault", FAULTS | OUTSIDE)
def test_a_fault_is_told(cable: Cable, fault: str) -> None:
    change, reason = (FAULTS | OUTSIDE)[fault]
    verdict, (told,) = seen(cable, change(cable, alive(cable)))
    assert verdict is Verdict.DEGRADED
    assert told.startswith(reason)


@pytest.mark.parametrize("fault", FAULTS)
def test_whatever_is_told_connect_mends(cable: Cable, fault: str) -> None:
    change, _ = FAULTS[fault]
    assert connect.plan(cable, change(cable, alive(cable))).needed


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
        assert seen(cable, BLANK) == (Verdict.DOWN, ("nothing of it is here",))

    def test_a_pluto_that_forgot(self, cable: Cable) -> None:
        """It was started anew; device and guard are still there."""
        facts = replace(alive(cable), connections={}, policies={}, sas=())
        assert seen(cable, facts) == (Verdict.DOWN, ("pluto has none of its connections",))

    def test_what_a_killed_pluto_left_goes_on(self, cable: Cable) -> None:
        facts = replace(alive(cable), pluto=Pluto.DOWN, connections={})
        reason = "pluto isn't running: nobody renews SAs"
        assert seen(cable, facts) == (Verdict.DEGRADED, (reason,))
        stopped = replace(facts, policies={}, sas=())
        assert seen(cable, stopped) == (Verdict.DOWN, (reason,))

    def test_clear_text_without_its_device(self) -> None:
        cable = shaped("none vxlan v4")
        facts = with_link(alive(cable), up=False)
        assert seen(cable, facts) == (Verdict.DOWN, ("the device vxlan-tunnel is down",))


class TestForeign:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"group": "0"}, "is there and cablectl didn't make it"),
            ({"info": {"id": 7}}, "was made for another cable, port, VNI or key"),
            ({"mac": "02:ca:00:00:00:00"}, "was made for another cable, port, VNI or key"),
        ],
    )
    def test_a_device(self, cable: Cable, change: dict[str, object], reason: str) -> None:
        """It is refused as connect refuses it, whether or not the SAs stand."""
        for facts in (alive(cable), replace(BLANK, overlay=alive(cable).overlay)):
            changed = with_link(facts, **change)
            verdict, (told,) = seen(cable, changed)
            assert verdict is Verdict.FOREIGN
            assert told == f"the device vxlan-tunnel {reason}"
            with pytest.raises(HostNotReadyError):
                connect.plan(cable, changed)

    def test_a_connection_that_joins_others(self, cable: Cable) -> None:
        other = alive(load("quickstart", "cluster2")).connections
        (loaded, *_) = other.values()
        facts = with_connection(cable, alive(cable), 0, loaded)
        verdict, reasons = seen(cable, facts)
        assert verdict is Verdict.FOREIGN
        assert reasons == ("pluto has connection 0 with other addresses or ports",)

    def test_what_submariners_own_driver_made(self) -> None:
        """The names are the same; but cablectl writes a secret, and loads a guard."""
        cable = shaped("tunnel v4")
        facts = replace(alive(cable), secret=Secret.ABSENT, guard=None)
        verdict, reasons = seen(cable, facts)
        assert verdict is Verdict.FOREIGN
        assert reasons == ("pluto has connections of these names, and cablectl made none here",)


class TestMtu:
    """Held against the very SAs: what the file allows doesn't matter then."""

    @pytest.mark.parametrize(
        ("encapsulated", "cipher", "largest"),
        [
            (True, AES_GCM, 1408),
            (False, AES_GCM, 1416),
            (True, Cipher(iv=16, icv=16, block=16), 1392),
            (True, None, None),
        ],
    )
    def test_largest(
        self, cable: Cable, encapsulated: bool, cipher: Cipher | None, largest: int | None
    ) -> None:
        facts = alive(cable)
        sas = tuple(replace(each, encapsulated=encapsulated, cipher=cipher) for each in facts.sas)
        told = state.of(cable, replace(facts, sas=sas), NOW)
        assert told.overlay
        assert told.overlay.largest_mtu == largest
        assert (told.verdict is Verdict.UP) == (largest is None or largest >= 1408)

    def test_without_sas_nothing_is_judged(self, cable: Cable) -> None:
        facts = with_link(without_sa(cable, alive(cable), 0, 1), mtu=9000)
        told = state.of(cable, replace(facts, sas=()), NOW)
        assert not [each for each in told.reasons if "MTU" in each]

    def test_clear_text(self) -> None:
        cable = shaped("none vxlan v6")
        told = state.of(cable, with_link(alive(cable), mtu=1431), NOW)
        assert told.reasons == ("the MTU 1431 is larger than the 1430 that path and SAs carry",)


def test_a_geneve_whose_packets_leave_with_another_address() -> None:
    cable = shaped("transport geneve v4")
    assert isinstance(cable.overlay, Geneve)
    facts = replace(alive(cable), leaves_with="172.18.0.99")
    assert seen(cable, facts) == (
        Verdict.DEGRADED,
        ("what is sent to the peer leaves with 172.18.0.99, which no policy protects",),
    )


def test_a_clock_that_was_set_back(cable: Cable) -> None:
    told = state.of(cable, alive(cable), NOW - 7200)
    assert told.connections[0].child_sas[0].age == 0


class TestRates:
    def later(self, cable: Cable, carried: int, seconds: float) -> Report:
        facts = alive(cable)
        for number in (0, 1):
            loaded = facts.connections[name(cable, number)]
            (sa,) = loaded.child_sas
            sa = replace(sa, bytes_in=sa.bytes_in + carried, bytes_out=sa.bytes_out + 2 * carried)
            facts = with_connection(cable, facts, number, replace(loaded, child_sas=(sa,)))
        return report(state.of(cable, facts, NOW + seconds), time=NOW + seconds)

    def rates(self, report: Report) -> list[tuple[float | None, float | None]]:
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


def test_faults_are_those_of_the_overlays_own_kind() -> None:
    """A GRE has no neighbours, and only a VXLAN has forwarding entries."""
    for shape in ("transport gre v4", "transport geneve v4", "transport vxlan v4"):
        cable = shaped(shape)
        assert cable.overlay
        facts = alive(cable)
        bare = replace(facts.overlay, fdb=frozenset(), neighbours=frozenset())
        _, reasons = seen(cable, replace(facts, overlay=bare))
        fdb = 2 if isinstance(cable.overlay, Vxlan) else 0
        assert len(reasons) == fdb + overlay.has_macs(cable.overlay)
