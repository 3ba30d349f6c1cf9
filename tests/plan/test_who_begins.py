"""One end of a cable begins; the other one waits, and has no trap policies meanwhile."""

import pytest
from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, Facts
from cablectl.libreswan import pluto, whack
from cablectl.libreswan.pluto import ChildSa
from cablectl.model.argv import Argv
from cablectl.plan import connect_plan
from cablectl.plan.steps import Phase
from tests.support.alive import alive
from tests.support.examples import load
from tests.support.plans import BLANK


@pytest.mark.parametrize("credential", [Credential.SAME, Credential.ABSENT])
def test_the_end_that_waits_neither_routes_nor_initiates(
    made: Facts, credential: Credential
) -> None:
    """Even if it was up before: two ends that negotiate at once leave dead SAs."""
    waits = load("quickstart", "cluster1")
    assert not waits.initiates
    was_up = credential is Credential.SAME
    facts = replace(made, credential=credential, made_here=was_up, connections={}, policies={})
    plan = connect_plan.plan((waits,), (facts,))
    assert not {Phase.ROUTE, Phase.INITIATE} & {step.phase for step in plan.needed}
    reasons = {step.not_needed for step in plan.steps if step.phase is Phase.ROUTE}
    assert reasons == {"without SAs the guard drops the packets"}


def test_the_end_that_begins_has_no_trap_policies_either() -> None:
    """A packet that meets one makes pluto negotiate a second Child SA."""
    phases = [
        step.phase for step in connect_plan.plan((load("quickstart", "cluster2"),), (BLANK,)).needed
    ]
    assert Phase.INITIATE in phases
    assert Phase.ROUTE not in phases


def test_without_a_guard_the_end_that_waits_has_trap_policies() -> None:
    """Nothing else keeps its packets from leaving in clear text."""
    cable = replace(load("quickstart", "cluster1"), guard=False)
    phases = [step.phase for step in connect_plan.plan((cable,), (BLANK,)).needed]
    assert Phase.ROUTE in phases
    assert Phase.INITIATE not in phases


@pytest.mark.parametrize("end", ["cluster1", "cluster2"])
def test_a_child_sa_that_the_kernel_has_lost_is_deleted(end: str) -> None:
    """Also at the end that waits: the peer goes on to send with it until it is told."""
    cable = load("quickstart", end)
    facts = alive(cable)
    kept = {sa.serial for each in facts.connections.values() for sa in each.child_sas}
    loaded = {
        name: replace(each, serials=(1, *(sa.serial for sa in each.child_sas)))
        for name, each in facts.connections.items()
    }
    assert 1 not in kept
    steps = connect_plan.plan((cable,), (replace(facts, connections=loaded),)).needed
    assert [step.argv for step in steps] == [whack.retire(1)] * 2
    assert {step.phase for step in steps} == {Phase.RETIRE}


@pytest.mark.parametrize("end", ["cluster1", "cluster2"])
def test_a_cable_whose_sas_are_lost_is_loaded_anew(end: str) -> None:
    """The peer hears of it by the deletion."""
    cable = load("quickstart", end)
    facts = alive(cable)
    loaded = {
        name: replace(each, lost=True, up=False, child_sas=())
        for name, each in facts.connections.items()
    }
    steps = connect_plan.plan((cable,), (replace(facts, connections=loaded),)).needed
    deleted = [step.argv for step in steps if "--delete" in step.argv]
    assert deleted == [whack.delete(connection.name) for connection in cable.connections]
    phases = {step.phase for step in steps}
    assert (Phase.INITIATE in phases) == cable.initiates
    assert Phase.ROUTE not in phases


@pytest.mark.parametrize("end", ["cluster1", "cluster2"])
def test_the_end_that_begins_is_the_first_to_delete_child_sas_that_are_too_many(end: str) -> None:
    """If both ends did at once, each might delete what the other one uses."""
    cable = load("quickstart", end)
    facts = alive(cable)
    two = ChildSa(7, 1000, 0, 0), ChildSa(5, 1100, 0, 0, newest=True)

    def deleted(age: float, sas: tuple[ChildSa, ...]) -> list[Argv]:
        loaded = {
            name: replace(each, child_sas=sas, serials=(5, 7), age=age)
            for name, each in facts.connections.items()
        }
        steps = connect_plan.plan((cable,), (replace(facts, connections=loaded),)).needed
        return [step.argv for step in steps]

    both = [whack.retire(7)] * 2
    settled = pluto.SETTLED if cable.begins else pluto.FORGOTTEN
    assert deleted(settled, two) == both
    assert deleted(settled - 1, two) == []
