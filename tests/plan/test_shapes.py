"""What differs from shape to shape: modes, overlays, roles, NAT, and the network that all share."""

import shlex
import subprocess
from ipaddress import ip_network
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts import host_facts
from cablectl.facts.host_facts import Facts, Pluto
from cablectl.linux import iproute
from cablectl.model.cable import Cable, Role
from cablectl.model.wishes import Geneve, Mode, OverlayKind
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Phase
from cablectl.render import plans
from tests.support.documents import SHAPES, shaped
from tests.support.plans import BLANK, needed


@pytest.mark.parametrize("end", ["cluster1", "cluster2"])
@pytest.mark.parametrize("shape", SHAPES)
def test_in_every_shape_a_cable_is_made_once_and_taken_away(shape: str, end: str) -> None:
    cable = shaped(shape, end)
    size = connect_plan.overlay_mtu(cable, BLANK, cable.overlay) if cable.overlay else 0
    there = host_facts.connected(cable, BLANK, size)
    assert connect_plan.plan((cable,), (BLANK,)).needed
    assert needed(connect_plan.plan((cable,), (there,))) == []
    assert needed(teardown_plan.plan((cable,), (BLANK,))) == []
    assert teardown_plan.plan((cable,), (there,)).needed
    order = list(Phase)
    for plan in (connect_plan.plan((cable,), (BLANK,)), teardown_plan.plan((cable,), (there,))):
        phases = [order.index(step.phase) for step in plan.steps]
        assert phases == sorted(phases)


class TestModes:
    def test_a_server_neither_routes_nor_initiates_in_tunnel_mode(self) -> None:
        this = shaped("tunnel v4 server", "cluster2")
        assert connect_plan.plan((this,), (BLANK,)).warnings == ()  # the guard catches all
        plan = connect_plan.plan((replace(this, guard=False),), (BLANK,))
        assert plan.cables[0].role is Role.SERVER
        assert not {Phase.ROUTE, Phase.INITIATE} & {step.phase for step in plan.needed}
        assert "has no trap policies before cluster1 connects" in plan.warnings[0]
        waits = [step for step in plan.needed if step.waits_for]
        assert [step.can_ask for step in waits] == [False] * len(this.connections)

    def test_in_transport_mode_a_server_without_a_guard_has_traps(self) -> None:
        """The overlay knows its peer, so nothing of it need ever leave in clear text."""
        for overlay in OverlayKind:
            cable = replace(shaped(f"transport {overlay} v4 server", "cluster2"), guard=False)
            plan = connect_plan.plan((cable,), (BLANK,))
            assert cable.role is Role.SERVER
            assert Phase.ROUTE in {step.phase for step in plan.needed}
            assert Phase.INITIATE not in {step.phase for step in plan.needed}

    def test_of_two_that_prefer_it_the_name_that_sorts_last_is_the_server(self) -> None:
        roles = [shaped("tunnel v4 servers", end).role for end in ("cluster1", "cluster2")]
        assert roles == [Role.CLIENT, Role.SERVER]

    def test_an_end_that_does_not_say_leaves_both_bidirectional(self) -> None:
        for end in ("cluster1", "cluster2"):
            cable = shaped("tunnel v4 server", end)
            silent = {"preferred_server": None}
            local = replace(cable.local, **silent) if end == "cluster1" else cable.local
            remote = replace(cable.remote, **silent) if end == "cluster2" else cable.remote
            assert replace(cable, local=local, remote=remote).role is Role.BIDIRECTIONAL

    def test_the_end_behind_nat_initiates(self) -> None:
        ends = ("cluster1", "cluster2")
        assert [shaped("tunnel v4", end).initiates for end in ends] == [False, True]
        assert [shaped("tunnel v4 nat", end).initiates for end in ends] == [True, False]

    def test_a_gateways_own_address_is_no_subnet(self) -> None:
        names = [each.name[-4:] for each in shaped("tunnel v4").connections]
        assert names == ["-0-0", "-1-0"]
        script = plans.as_script(
            connect_plan.plan((shaped("transport vxlan v4", "cluster2"),), (BLANK,))
        )
        assert "ip route add 10.44.0.0/16 via" in script
        assert "ip route add 172.18.0.8/32" not in script

    def test_without_ipsec_pluto_is_left_alone(self) -> None:
        cable = shaped("none vxlan v4")
        plan = connect_plan.plan((cable,), (replace(BLANK, pluto=Pluto.DOWN),))
        assert {step.phase for step in plan.steps} == {Phase.MSS, Phase.OVERLAY, Phase.UP}
        assert "clear text" in plan.warnings[0]
        assert "mtu 1450" in shlex.join(plan.steps[1].argv)
        assert cable.mode is Mode.NONE

    def test_a_geneve_that_would_leave_with_another_address_is_refused(self) -> None:
        cable = shaped("transport geneve v4")
        assert isinstance(cable.overlay, Geneve)
        with pytest.raises(
            HostNotReadyError, match=r"leave with the source address 172\.18\.0\.99"
        ):
            connect_plan.plan((cable,), (replace(BLANK, leaves_with="172.18.0.99"),))
        assert connect_plan.plan((cable,), (replace(BLANK, leaves_with="172.18.0.8"),)).needed


class TestNetwork:
    def test_the_hosts_own_address_in_its_cluster_speaks(self, cable: Cable) -> None:
        plan = connect_plan.plan((cable,), (replace(BLANK, source="10.44.0.1"),))
        assert any(line.endswith(" proto 241 src 10.44.0.1") for line in needed(plan))

    def test_a_new_source_replaces_the_route(self, cable: Cable, made: Facts) -> None:
        plan = connect_plan.plan((cable,), (replace(made, source="10.44.0.1"),))
        (step,) = plan.needed
        assert shlex.join(step.argv).startswith("ip route replace 10.45.0.0/16 via 241.18.0.7")
        assert [shlex.join(argv)[:16] for argv in step.undo] == ["ip route replace"]
        assert "src" not in step.undo[0]

    def test_what_the_device_lets_pass_is_set_and_read_back(
        self, cable: Cable, made: Facts
    ) -> None:
        there = replace(made.overlay, settings=frozenset())
        (loose, forwards) = connect_plan.plan((cable,), (replace(made, overlay=there),)).needed
        assert loose.argv[-2:] == ("/proc/sys/net/ipv4/conf/vxlan-tunnel/rp_filter", "2")
        assert forwards.argv[-2:] == ("/proc/sys/net/ipv4/conf/vxlan-tunnel/forwarding", "1")

    @pytest.mark.parametrize("kept", [True, False], ids=["kept", "not kept"])
    def test_a_setting_that_the_kernel_does_not_keep_fails(
        self, tmp_path: Path, kept: bool
    ) -> None:
        path = tmp_path / "rp_filter" if kept else Path("/dev/null")
        done = subprocess.run(iproute.set_setting(str(path), "2"), check=False)
        assert (done.returncode == 0) == kept

    def test_vteps_of_another_network(self, cable: Cable) -> None:
        this = replace(cable, vtep_network=ip_network("10.200.0.0/16"))
        assert (str(this.local_vtep), str(this.remote_vtep.ip)) == ("10.200.0.8/16", "10.200.0.7")
