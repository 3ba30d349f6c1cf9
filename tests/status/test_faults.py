"""Every reason why a cable isn't up, or isn't ours; and that connect has something to do then."""

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Credential
from cablectl.linux.mtu import AES_GCM, Cipher
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, Geneve, Vxlan
from cablectl.plan import connect_plan
from cablectl.status import state
from cablectl.status.report import Verdict
from tests.support.alive import BLANK, NOW, alive, seen, with_connection, with_link, without_sa
from tests.support.documents import shaped
from tests.support.examples import load, with_traps
from tests.support.faults import FAULTS, OUTSIDE


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


@pytest.mark.parametrize("traps", [True, False])
def test_a_missing_trap_is_a_fault_where_there_is_to_be_one(*, traps: bool) -> None:
    cable = with_traps(load("quickstart")) if traps else load("quickstart")
    facts = alive(cable)
    loaded = {
        name: replace(each, routed=False, up=False, child_sas=())
        for name, each in facts.connections.items()
    }
    _, reasons = seen(cable, replace(facts, connections=loaded, policies={}, sas=()))
    assert any("has no Child SA" in reason for reason in reasons)
    assert any("isn't routed" in reason for reason in reasons) == traps


class TestForeign:
    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"group": "0"}, "exists, but cablectl didn't make it"),
            ({"info": {"id": 7}}, "was made for another cable, port, VNI or key"),
            ({"mac": "3e:00:00:00:00:01"}, "was made for another cable, port, VNI or key"),
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
        assert reasons == ("connection 0 is loaded with other addresses or ports",)
        with pytest.raises(HostNotReadyError):
            connect_plan.plan((cable,), (facts,))

    def test_what_submariners_own_driver_made(self) -> None:
        """The names are the same; but cablectl writes a secret, and loads a guard."""
        cable = shaped("tunnel v4")
        facts = replace(alive(cable), credential=Credential.ABSENT, made_here=False, guard=None)
        verdict, reasons = seen(cable, facts)
        assert verdict is Verdict.FOREIGN
        assert reasons == (
            "connections with these names are loaded, but cablectl didn't load them",
        )


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
        assert told.reasons == ("the MTU 1431 is too large: path and SAs allow at most 1430",)


def test_a_geneve_whose_packets_leave_with_another_address() -> None:
    cable = shaped("transport geneve v4")
    assert isinstance(cable.overlay, Geneve)
    facts = replace(alive(cable), leaves_with="172.18.0.99")
    assert seen(cable, facts) == (
        Verdict.DEGRADED,
        ("packets to the peer leave with 172.18.0.99, which no policy protects",),
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
