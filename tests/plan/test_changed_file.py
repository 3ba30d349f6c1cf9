"""A file that was changed: what the difference does to a cable that is up."""

import shlex
from ipaddress import ip_network

from msgspec.structs import replace

from cablectl.facts import host_facts
from cablectl.facts.host_facts import Algorithms, Credential, Facts, OverlayFacts
from cablectl.model.cable import Cable
from cablectl.model.wishes import Vxlan
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Change, Phase, Plan
from cablectl.render import plans
from tests.support.documents import shaped
from tests.support.plans import BLANK, needed


def signs(plan: Plan) -> list[str]:
    return [f"{step.change} {shlex.join(step.argv)}" for step in plan.needed]


class TestAChangedFile:
    """What is not said otherwise stays as it is."""

    def test_another_mtu(self, cable: Cable, made: Facts) -> None:
        this = replace(cable, overlay=Vxlan(mtu=1300))
        clamp, device = signs(connect_plan.plan((this,), (made,)))
        assert clamp.startswith("~ nft ")
        assert device == "~ ip link set dev vxlan-tunnel mtu 1300"

    def test_another_subnet(self, cable: Cable, made: Facts) -> None:
        remote = replace(cable.remote, subnets=(ip_network("10.46.0.0/16"),))
        clamp, added, removed = signs(connect_plan.plan((replace(cable, remote=remote),), (made,)))
        assert clamp.startswith("~ nft ")
        assert added.startswith("+ ip route add 10.46.0.0/16 via 241.18.0.7 dev vxlan-tunnel")
        assert removed.startswith("- ip route delete 10.45.0.0/16 via 241.18.0.7")

    def test_routes_by_another_peer_stay(self, cable: Cable, made: Facts) -> None:
        theirs = ("10.99.0.0/16", "241.18.0.99", "")
        there = replace(made.overlay, routes=made.overlay.routes | {theirs})
        assert connect_plan.plan((cable,), (replace(made, overlay=there),)).needed == ()

    def test_other_algorithms(self, cable: Cable, made: Facts) -> None:
        """The facts have the new file's in pluto's words, the connections the old one's."""
        plan = connect_plan.plan(
            (cable,), (replace(made, algorithms=Algorithms(("AES_GCM_16-NONE-MODP2048",))),)
        )
        names = [each.name for each in cable.connections]
        assert signs(plan)[:2] == [f"- ipsec whack --delete --name {name}" for name in names]
        assert Phase.ADD in {step.phase for step in plan.needed[2:]}
        assert connect_plan.plan((cable,), (replace(made, algorithms=Algorithms(())),)).needed == ()
        assert connect_plan.plan((cable,), (replace(made, algorithms=Algorithms()),)).needed == ()

    def test_other_subnets_in_tunnel_mode(self) -> None:
        """The first pair of subnets becomes another, the second is no more."""
        cable = shaped("tunnel v4")
        made = host_facts.connected(cable, BLANK, 0)
        local = replace(cable.local, subnets=(ip_network("10.47.0.0/16"),))
        changed = connect_plan.plan((replace(cable, local=local),), (made,))
        name = cable.remote.cable_name
        deleted = [f"- ipsec whack --delete --name {name}-{i}-0" for i in (0, 1)]
        assert sorted(line for line in signs(changed) if line[0] == "-") == deleted
        assert [line[:21] for line in signs(changed) if "--psk" in line] == [
            "+ ipsec whack --psk -"
        ]
        gone = needed(teardown_plan.plan((replace(cable, local=local),), (made,)))
        assert [line for line in gone if "--delete" in line] == [line[2:] for line in deleted]

    def test_what_cablectl_did_not_make_stays(self) -> None:
        cable = shaped("tunnel v4")
        made = replace(
            host_facts.connected(cable, BLANK, 0), credential=Credential.ABSENT, made_here=False
        )
        one = replace(cable, local=replace(cable.local, subnets=cable.local.subnets[:1]))
        assert not any("--delete" in line for line in needed(connect_plan.plan((one,), (made,))))

    def test_another_file_is_no_reason_to_say_that_the_guard_was_flushed(
        self, cable: Cable, made: Facts
    ) -> None:
        this = replace(cable, overlay=Vxlan(vni=7), guard=True)
        facts = replace(made, overlay=OverlayFacts())
        plan = connect_plan.plan((this,), (facts,))
        assert plan.warnings == ()
        assert plan.needed[0].change is Change.ALTER


def test_a_difference_is_a_line_for_each_step(cable: Cable, made: Facts) -> None:
    this = replace(cable, overlay=Vxlan(mtu=1300), mss=1368)
    lines = plans.as_difference(connect_plan.plan((this,), (made,))).splitlines()
    assert lines[0].startswith("# connect cluster1 to cluster2")
    changed = lines.index("~ overlay   the device's MTU in bytes; it was 1408")
    assert lines[changed + 1] == "    $ ip link set dev vxlan-tunnel mtu 1300"
    assert {line[0] for line in lines[1:changed] + lines[changed + 2 :]} == {"="}
