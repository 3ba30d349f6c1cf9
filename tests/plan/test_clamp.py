"""The steps that limit TCP's segments."""

import shlex

import pytest
from msgspec.structs import replace

from cablectl.facts.host_facts import Facts, connected
from cablectl.linux import mss
from cablectl.linux.mss import CHANGED, Table
from cablectl.model.cable import Cable
from cablectl.model.wishes import Clamp
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Change, Phase, Step
from tests.support.documents import meshed, shaped
from tests.support.meshes import CABLES, there
from tests.support.plans import BLANK, needed

WANTED = Table(1368, frozenset({"10.45.0.0/16"}))
NAME = "inet cablectl-mss_vxlan-tunnel"


def clamps(cable: Cable, facts: Facts) -> list[Step]:
    plan = connect_plan.plan((cable,), (facts,))
    return [step for step in plan.needed if step.phase is Phase.MSS]


@pytest.mark.parametrize(
    "shape",
    ["tunnel v4", "tunnel v6 nat", "transport gre v6", "transport ipip v4", "none vxlan v4"],
)
def test_loaded_before_anything_can_be_sent(shape: str) -> None:
    cable = shaped(shape)
    for this in (cable, replace(cable, guard=False)):
        plan = connect_plan.plan((this,), (BLANK,))
        phases = [step.phase for step in plan.needed if step.phase is not Phase.GUARD]
        assert phases[0] is Phase.MSS
        (step,) = clamps(this, BLANK)
        assert step.undo == (mss.remove(mss.name(cable)),)
    made = connected(cable, BLANK, 1400)
    lines = needed(teardown_plan.plan((cable,), (made,)))
    # The device, if there is one, is removed before.
    before = lines[: lines.index(shlex.join(mss.remove(mss.name(cable))))]
    assert any("ip link delete" in line for line in before) == (cable.overlay is not None)


def test_without_subnets_there_is_none() -> None:
    cable = shaped("transport none v4")
    plan = connect_plan.plan((cable,), (BLANK,))
    assert Phase.MSS not in {step.phase for step in plan.steps}
    assert not any("mss" in line for line in needed(teardown_plan.plan((cable,), (BLANK,))))


@pytest.mark.parametrize(
    ("loaded", "kind", "undo"),
    [
        (None, Change.ADD, (mss.remove(NAME),)),
        (CHANGED, Change.ALTER, ()),
        (replace(WANTED, size=1400), Change.ALTER, (mss.load(NAME, replace(WANTED, size=1400)),)),
        (WANTED, None, None),
    ],
)
def test_what_is_loaded_decides(
    cable: Cable, made: Facts, loaded: Table | None, kind: Change | None, undo: object
) -> None:
    steps = clamps(cable, replace(made, mss=loaded))
    expected = [] if kind is None else [(mss.load(NAME, WANTED), kind, undo)]
    assert [(step.argv, step.kind, step.undo) for step in steps] == expected


def test_off_removes_it(cable: Cable, made: Facts) -> None:
    off = replace(cable, mss=Clamp.OFF)
    (step,) = clamps(off, made)
    assert (step.argv, step.undo) == (mss.remove(NAME), (mss.load(NAME, WANTED),))
    assert clamps(off, replace(made, mss=None)) == []
    lines = needed(teardown_plan.plan((off,), (made,)))
    assert shlex.join(mss.remove(NAME)) in lines


def test_a_number_of_the_file(cable: Cable, made: Facts) -> None:
    (step,) = clamps(replace(cable, mss=1200), made)
    assert step.argv == mss.load(NAME, replace(WANTED, size=1200))


class TestAMesh:
    def test_one_table_for_a_device(self) -> None:
        plan = connect_plan.plan(CABLES, (BLANK, BLANK))
        (step,) = (step for step in plan.needed if step.phase is Phase.MSS)
        table = mss.wanted(CABLES, 1408)
        assert table
        assert (step.argv, step.cable) == (mss.load(NAME, table), "")
        assert {str(net) for cable in CABLES for net in cable.remote.networks} > {"10.45.0.0/16"}

    def test_one_peer_keeps_the_subnets_of_the_others(self) -> None:
        facts = there(CABLES[:1], CABLES)
        assert connect_plan.plan(CABLES[:1], facts, narrowed=True).needed == ()
        (step,) = (
            step for step in connect_plan.plan(CABLES[:1], facts).needed if step.phase is Phase.MSS
        )
        table = mss.wanted(CABLES[:1], 1408)
        assert table
        assert step.argv == mss.load(NAME, table)
        plan = teardown_plan.plan(CABLES[:1], facts, narrowed=True)
        (kept,) = (step for step in plan.steps if step.argv == mss.remove(NAME))
        assert kept.not_needed == "other peers need it"

    def test_a_table_for_each_tunnel(self) -> None:
        cables = meshed("tunnel v4 mesh")
        plan = connect_plan.plan(cables, (BLANK, replace(BLANK, path_mtu=1400)))
        steps = [step for step in plan.needed if step.phase is Phase.MSS]
        assert [step.cable for step in steps] == [cable.id for cable in cables]
        assert ["size set 1398" in steps[0].argv[1], "size set 1298" in steps[1].argv[1]] == [
            True,
            True,
        ]
