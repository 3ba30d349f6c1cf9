"""What teardown removes, and what it leaves."""

import shlex

from msgspec.structs import replace

from cablectl.facts.host_facts import Facts, OverlayFacts, Pluto
from cablectl.linux import guard, guard_file, iproute, watch_file
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Outcome, Phase
from cablectl.render import plans
from tests.support.meshes import CABLES, there
from tests.support.plans import BLANK, FOREIGN, OTHER_LINK, OTHER_SA, needed


def test_teardown_of_nothing_has_nothing_to_do(cable: Cable) -> None:
    assert needed(teardown_plan.plan((cable,), (BLANK,))) == []


def test_teardown_takes_the_device_down_before_the_policies(cable: Cable, made: Facts) -> None:
    lines = needed(teardown_plan.plan((cable,), (made,)))
    device = lines.index("ip link delete dev vxlan-tunnel")
    whacks = [i for i, line in enumerate(lines) if line.startswith("ipsec whack")]
    assert len(whacks) == 3
    assert min(whacks) > device


class TestTeardown:
    def test_what_pluto_removes_is_left_to_pluto(self, cable: Cable, made: Facts) -> None:
        assert not any(
            line.startswith("ip xfrm") for line in needed(teardown_plan.plan((cable,), (made,)))
        )

    def test_what_is_missing_is_fine(self, cable: Cable, made: Facts) -> None:
        rule = iproute.Rule(24141, 241)
        facts = replace(made, overlay=OverlayFacts(rules=frozenset({rule})))
        lines = needed(teardown_plan.plan((cable,), (facts,)))
        assert lines[0] == shlex.join(iproute.rule(cable, "delete", rule))
        assert not any(line.startswith("ip link") for line in lines)

    def test_a_device_of_someone_else_stays(self, cable: Cable, made: Facts) -> None:
        facts = replace(made, overlay=OverlayFacts(link=OTHER_LINK))
        assert not any(
            "dev vxlan-tunnel" in line for line in needed(teardown_plan.plan((cable,), (facts,)))
        )

    def test_a_dead_pluto_is_not_asked_and_its_remains_are_removed(
        self, cable: Cable, made: Facts
    ) -> None:
        ours = SecurityAssociation("172.18.0.7", "172.18.0.8", "esp", "0xabc", 16389)
        facts = replace(
            made,
            pluto=Pluto.DOWN,
            connections={},
            policies={**made.policies, FOREIGN: 7},
            sas=(ours, OTHER_SA),
        )
        lines = needed(teardown_plan.plan((cable,), (facts,)))
        assert not any("whack" in line for line in lines)
        assert sum(line.startswith("ip xfrm policy delete") for line in lines) == 4
        assert not any("10.1.0.0" in line for line in lines)
        states = [line for line in lines if line.startswith("ip xfrm state delete")]
        assert states == ["ip xfrm state delete src 172.18.0.7 dst 172.18.0.8 proto esp spi 0xabc"]
        assert any(line.startswith("rm -f /etc/ipsec.d/cablectl-") for line in lines)


class TestWatch:
    def test_a_watch_lets_the_cable_go_first_of_all(self, cable: Cable, made: Facts) -> None:
        first, *_ = needed(teardown_plan.plan((cable,), (replace(made, watched=True),)))
        assert first == f"rm -f /run/cablectl/{cable.id}.watched"

    def test_without_a_watch_there_is_no_step(self, cable: Cable, made: Facts) -> None:
        steps = teardown_plan.plan((cable,), (made,)).steps
        assert not any(step.phase is Phase.RELEASE for step in steps)

    def test_only_the_cables_of_the_teardown_are_let_go(self) -> None:
        facts = [replace(found, watched=True) for found in there(CABLES[:1], CABLES)]
        plan = teardown_plan.plan(CABLES[:1], tuple(facts), narrowed=True)
        released = [step.argv for step in plan.needed if step.phase is Phase.RELEASE]
        assert released == [watch_file.remove(CABLES[0])]


class TestGuard:
    def test_a_watcher_lets_the_guard_go_before_the_guard_is_deleted(
        self, cable: Cable, made: Facts
    ) -> None:
        *_, file, table = needed(teardown_plan.plan((cable,), (made,)))
        assert file == "rm -f /run/cablectl/vxlan-tunnel.guard"
        assert table == shlex.join(guard.remove(cable))

    def test_without_a_watcher_there_is_no_file(self, cable: Cable, made: Facts) -> None:
        lines = needed(teardown_plan.plan((cable,), (replace(made, guard_watched=False),)))
        assert not any(".guard" in line for line in lines)

    def test_the_guard_is_kept_on_request(self, cable: Cable, made: Facts) -> None:
        whole = teardown_plan.plan((cable,), (made,))
        plan = teardown_plan.plan((cable,), (made,), keep_guard=True)
        assert plan.steps == whole.steps[:-2]
        assert plans.as_summary(Outcome(plan)).endswith(" is left, except the guard")
        assert plans.as_summary(Outcome(whole)).endswith(" is left")

    def test_a_file_that_wants_no_guard_ends_the_watcher_too(
        self, cable: Cable, made: Facts
    ) -> None:
        cable = replace(cable, guard=False)
        steps = connect_plan.plan((cable,), (made,)).needed
        assert [step.argv for step in steps if step.phase is Phase.GUARD] == [
            guard_file.remove(cable),
            guard.remove(cable),
        ]

    def test_a_watcher_lets_the_guard_of_a_former_cable_go(self, cable: Cable, made: Facts) -> None:
        tables = ("inet cablectl_cluster2-x", "inet cablectl-mss_cluster2-x")
        steps = teardown_plan.plan((cable,), (replace(made, former_tables=tables),)).needed
        lines = [shlex.join(step.argv) for step in steps]
        place = lines.index("rm -f /run/cablectl/cluster2-x.guard")
        assert lines[place + 1] == "nft 'delete table inet cablectl_cluster2-x'"
        assert not any("mss_cluster2-x.guard" in line for line in lines)
