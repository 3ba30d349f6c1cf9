"""Every reason why a cable isn't up, or isn't ours; and that connect has something to do then."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts import host_facts
from cablectl.facts.host_facts import Credential, Facts
from cablectl.libreswan.pluto import Ike, Shunt
from cablectl.linux import xfrm
from cablectl.linux.guard import Guard
from cablectl.linux.mtu import AES_GCM, Cipher
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, Geneve, Vxlan
from cablectl.plan import connect_plan
from cablectl.status import state
from cablectl.status.report import Verdict
from tests.conftest import load
from tests.status.test_status import (
    BLANK,
    NOW,
    alive,
    name,
    seen,
    with_connection,
    with_link,
    without_sa,
)
from tests.support.documents import shaped

Change = Callable[[Cable, Facts], Facts]
PEERS = "submariner-cable-cluster1-172-18-0-8-0"


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
    "an IKE SA that is gone": (
        lambda cable, facts: with_connection(
            cable, facts, 0, replace(facts.connections[name(cable, 0)], up=False, ike_of="")
        ),
        "connection 0 has a Child SA whose IKE SA is gone: the peer has let go of it",
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
    "a connection of an earlier file": (
        lambda cable, facts: with_connection(
            cable, facts, 0, alive(load("quickstart", "cluster2")).connections[PEERS]
        ),
        "connection 0 is of an earlier file",
    ),
    "a connection that only an earlier file had": (
        lambda cable, facts: replace(
            facts,
            connections=facts.connections
            | {f"{cable.remote.cable_name}-2": facts.connections[name(cable, 0)]},
        ),
        "connection 2 is of an earlier file",
    ),
    "the secret": (
        lambda _, facts: replace(facts, credential=Credential.ABSENT, made_here=False),
        "the secret /etc/ipsec.d/cablectl-cluster2-172-18-0-7.secrets is missing",
    ),
    "no guard": (
        lambda _, facts: replace(facts, guard=None),
        "the guard is gone: table inet cablectl_vxlan-tunnel",
    ),
    "half a guard": (
        lambda _, facts: replace(facts, guard=Guard(comments=("cablectl",))),
        "the guard isn't whole",
    ),
    "no device": (
        lambda _, facts: replace(facts, overlay=host_facts.OverlayFacts(rule=True)),
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
    assert connect_plan.plan((cable,), (change(cable, alive(cable)),)).needed


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
                connect_plan.plan((cable,), (changed,))

    def test_a_connection_that_joins_others(self, cable: Cable) -> None:
        other = alive(load("quickstart", "cluster2")).connections
        (loaded, *_) = other.values()
        facts = with_connection(cable, alive(cable), 0, loaded)
        facts = replace(facts, credential=Credential.ABSENT, made_here=False)
        verdict, reasons = seen(cable, facts)
        assert verdict is Verdict.FOREIGN
        assert reasons == ("pluto has connection 0 with other addresses or ports",)
        with pytest.raises(HostNotReadyError):
            connect_plan.plan((cable,), (facts,))

    def test_what_submariners_own_driver_made(self) -> None:
        """The names are the same; but cablectl writes a secret, and loads a guard."""
        cable = shaped("tunnel v4")
        facts = replace(alive(cable), credential=Credential.ABSENT, made_here=False, guard=None)
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


def test_faults_are_those_of_the_overlays_own_kind() -> None:
    """A GRE has no neighbours, and only a VXLAN has forwarding entries."""
    for shape in [f"transport {kind} v4" for kind in OVERLAYS]:
        cable = shaped(shape)
        assert cable.overlay
        facts = alive(cable)
        bare = replace(facts.overlay, fdb=frozenset(), neighbours=frozenset())
        _, reasons = seen(cable, replace(facts, overlay=bare))
        fdb = 2 if isinstance(cable.overlay, Vxlan) else 0
        assert len(reasons) == fdb + overlay_of(cable.overlay).has_macs
