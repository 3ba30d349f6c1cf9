"""More than two endpoints: each thing once, each cable for itself, and those that are gone."""

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from cablectl.config import native
from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.facts import partition
from cablectl.facts.host_facts import Credential, Pluto
from cablectl.linux import guard
from cablectl.linux.iproute import ANY_MAC
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.wishes import Vxlan
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Outcome, Phase
from cablectl.render import plans
from cablectl.render.plan_report import plan_report
from tests.support.documents import MESHES, meshed
from tests.support.examples import load
from tests.support.meshes import CABLES, SECOND, THIRD, big, of_steps, there, whole
from tests.support.places import EXAMPLES
from tests.support.plans import BLANK, needed

MESH = (EXAMPLES / "mesh.yaml").read_text()
# What a mesh's cables share: the same for 2 and for 2,000.
SHARED = ("nft", "systemctl", "pidof", "modprobe")


@pytest.mark.parametrize("shape", MESHES)
@pytest.mark.parametrize("end", ["cluster1", "cluster2", "cluster3"])
def test_it_is_made_once_and_taken_away(shape: str, end: str) -> None:
    cables = meshed(shape, end)
    facts = there(cables, cables)
    blank = (BLANK,) * len(cables)
    assert needed(connect_plan.plan(cables, blank))
    assert needed(connect_plan.plan(cables, facts)) == []
    assert needed(teardown_plan.plan(cables, blank)) == []
    order = list(Phase)
    for plan in (connect_plan.plan(cables, blank), teardown_plan.plan(cables, facts)):
        phases = [order.index(step.phase) for step in plan.steps]
        assert phases == sorted(phases)
        assert of_steps(plan) == {"", *(each.id for each in cables)}
        assert len({step.argv for step in plan.steps}) == len(plan.steps)


def test_what_is_shared_is_there_once() -> None:
    steps = connect_plan.plan(CABLES, (BLANK, BLANK)).steps
    guarding, *shared = [step for step in steps if not step.cable]
    assert guarding.argv == guard.load(CABLES[0]) == guard.load(CABLES[1])
    pair = connect_plan.plan((load("quickstart"),), (BLANK,))
    _, *alone = [step.argv for step in pair.steps if not step.cable]
    assert [step.argv for step in shared] == alone
    assert {step.argv[0] for step in (guarding, *shared)} >= {*SHARED, "ip", "sh"}
    for cable in CABLES:
        mine = [step for step in steps if step.cable == cable.id]
        assert {step.phase for step in mine} == {
            *(Phase.SECRET, Phase.ADD, Phase.ROUTE, Phase.INITIATE, Phase.WAIT),
            *(Phase.OVERLAY, Phase.UP),
        }


def test_no_frame_is_sent_to_all_unless_the_file_says_so() -> None:
    for text, flooded in ((MESH, False), (f"{MESH}vxlan: {{forwarding: flood}}\n", True)):
        network = native.parse(text, "mesh.yaml")
        cables = network.cables(network.endpoints[0])
        lines = needed(connect_plan.plan(cables, (BLANK, BLANK)))
        assert any(ANY_MAC in line for line in lines) is flooded
        assert sum(line.startswith("bridge fdb append") for line in lines) == 2 + 2 * flooded
    pair = (EXAMPLES / "quickstart.yaml").read_text()
    static = native.parse(f"{pair}vxlan: {{forwarding: static}}\n", "pair.yaml")
    assert isinstance(static.overlay, Vxlan)
    (cable,) = static.cables(static.endpoints[0])
    assert len(overlay_of(static.overlay).fdb_entries(cable)) == 1


def test_a_pair_that_grows_gets_one_cable_more_and_floods_no_longer() -> None:
    (before,) = (each for each in [load("quickstart")])
    facts = there(CABLES, (before,))
    plan = connect_plan.plan(CABLES, facts)
    others = [step for step in plan.needed if step.cable != THIRD]
    assert [step.argv for step in others] == [
        # What is read again, and loaded where it is missing, is what it was.
        ("ipsec", "whack", "--listen"),
        ("bridge", "fdb", "delete", ANY_MAC, "dev", "vxlan-tunnel", "dst", "172.18.0.7", "self",
         "permanent"),
    ]  # fmt: skip
    assert not any("--delete" in line for line in needed(plan))


def test_one_more_touches_no_other() -> None:
    facts = there(CABLES, CABLES[:1])
    plan = connect_plan.plan(CABLES, facts)
    assert of_steps(plan) == {"", THIRD}
    assert [step.argv for step in plan.needed if not step.cable] == [("ipsec", "whack", "--listen")]


class TestRefused:
    """A peer that can't be planned stops no other."""

    def test_those_alone_that_it_concerns(self) -> None:
        bad = replace(BLANK, credential=Credential.OTHER)
        plan = connect_plan.plan(CABLES, (bad, BLANK))
        assert list(plan.refused) == [SECOND]
        assert [each.id for each in plan.cables] == [THIRD]
        assert SECOND not in of_steps(plan)
        assert "holds another secret" in plans.as_warnings(plan)[0]
        assert f"# refused: {SECOND}: " in plans.as_script(plan)
        refused = to_builtins(plan_report(plan))["refused"]
        assert [each["cable"] for each in refused] == [SECOND]

    def test_one_error_if_none_is_left(self) -> None:
        down = replace(BLANK, pluto=Pluto.DOWN)
        with pytest.raises(HostNotReadyError, match="pluto isn't running"):
            connect_plan.plan(CABLES, (down, down))

    def test_policies_of_other_cables_are_not_foreign(self) -> None:
        facts = tuple(replace(each, pluto=Pluto.STARTABLE) for each in there(CABLES, CABLES))
        assert connect_plan.plan(CABLES, facts).refused == {}
        host = whole(CABLES)
        (alone,) = partition.of_each(CABLES[:1], host, frozenset())
        with pytest.raises(HostNotReadyError, match="would flush"):
            connect_plan.plan(CABLES[:1], (replace(alone, pluto=Pluto.STARTABLE),))


class TestMtu:
    def test_it_suits_every_peer(self) -> None:
        plan = connect_plan.plan(CABLES, (BLANK, replace(BLANK, path_mtu=1400)))
        (device,) = (line for line in needed(plan) if line.startswith("ip link add"))
        assert " mtu 1308 " in device

    def test_one_peer_more_makes_none_larger_that_others_have(self) -> None:
        narrow, facts = CABLES[1:], there(CABLES[1:], CABLES)
        link = facts[0].overlay.link
        assert link
        small = replace(facts[0].overlay, link=replace(link, mtu=1308))
        facts = (replace(facts[0], overlay=small),)
        assert connect_plan.plan(narrow, facts, narrowed=True).needed == ()
        (line,) = needed(
            connect_plan.plan(narrow, (replace(facts[0], path_mtu=1300),), narrowed=True)
        )
        assert line == "ip link set dev vxlan-tunnel mtu 1208"


def test_steps_grow_by_the_same_with_every_peer() -> None:
    def planned(count: int) -> int:
        cables = big(count).cables(big(count).endpoints[0])
        return len(connect_plan.plan(cables, (BLANK,) * len(cables)).steps)

    counts = [planned(each) for each in (3, 4, 100)]
    assert counts[2] - counts[0] == 97 * (counts[1] - counts[0])


class TestWords:
    plan = connect_plan.plan(CABLES, (BLANK, BLANK))

    def test_json_has_a_list_of_cables(self) -> None:
        told = to_builtins(plan_report(self.plan))
        assert (told["cable"], told["remote"]) == (None, None)
        assert [each["cable"] for each in told["cables"]] == [SECOND, THIRD]
        assert {each["cable"] for each in told["steps"]} == {None, SECOND, THIRD}
        pair = to_builtins(plan_report(connect_plan.plan(CABLES[:1], (BLANK,))))
        assert (pair["cable"], pair["remote"]) == (SECOND, "cluster2")

    def test_title(self) -> None:
        title = "connect cluster1 to 2 peers, for Libreswan 4.10"
        assert plans.as_script(self.plan).splitlines()[1] == f"# cablectl: {title}. Run as root."
        assert plans.as_difference(self.plan).splitlines()[0] == f"# {title}"

    def test_summary(self) -> None:
        up = "up, encrypted by ESP in transport mode (vxlan-tunnel, VTEP 241.18.0.8)"
        assert plans.as_summary(Outcome(self.plan)) == f"the 2 cables of cluster1 are {up}"
        failed: dict[str, CablectlError] = {SECOND: TimeLimitError("too late")}
        assert plans.as_summary(Outcome(self.plan, failed)) == f"the cable to cluster3 is {up}"
        failed[THIRD] = CablectlError("it broke")
        assert plans.as_summary(Outcome(self.plan, failed)) == ""
        gone = teardown_plan.plan(CABLES, there(CABLES, CABLES))
        told = "no trace of the 2 cables of cluster1 is left"
        assert plans.as_summary(Outcome(gone)) == told
