"""What a watch does of a connect's plan: what differs, and nothing that has to wait."""

import shlex
from collections.abc import Mapping, Set

import pytest
from msgspec.structs import replace

from cablectl.facts.host_facts import Facts, OverlayFacts, Pluto
from cablectl.libreswan import whack
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, repair_plan
from cablectl.plan.steps import Phase, Plan
from tests.support.alive import alive, without_sa
from tests.support.examples import load
from tests.support.meshes import CABLES, SECOND, THIRD, there
from tests.support.plans import BLANK, needed


def repairs(
    cables: tuple[Cable, ...],
    facts: tuple[Facts, ...],
    left_alone: Mapping[str, str] | None = None,
    ready: Set[str] | None = None,
) -> Plan:
    whole = connect_plan.plan(cables, facts, wait=False)
    up = repair_plan.up(cables, facts) if ready is None else ready
    return repair_plan.plan(whole, up, left_alone or {})


def phases(plan: Plan) -> set[Phase]:
    return {step.phase for step in plan.needed}


def reasons(plan: Plan, *of: Phase) -> set[str]:
    return {step.not_needed for step in plan.steps if step.phase in of}


def test_a_cable_that_is_whole_needs_nothing(cable: Cable) -> None:
    assert needed(repairs((cable,), (alive(cable),))) == []


def test_a_missing_route_is_mended_by_its_own_step_alone(cable: Cable) -> None:
    facts = alive(cable)
    facts = replace(facts, overlay=replace(facts.overlay, routes=frozenset()))
    (line,) = needed(repairs((cable,), (facts,)))
    assert line.startswith("ip route add 10.45.0.0/16")


def test_a_cable_without_child_sas_gets_no_overlay(cable: Cable) -> None:
    facts = replace(without_sa(cable, alive(cable), 0, 1), overlay=OverlayFacts())
    plan = repairs((cable,), (facts,))
    assert not phases(plan) & {Phase.OVERLAY, Phase.UP}
    assert "waits for the Child SAs" in reasons(plan, Phase.OVERLAY)
    assert Phase.OVERLAY in phases(repairs((cable,), (facts,), ready={cable.id}))


@pytest.mark.parametrize("missing", [0, 1])
def test_a_cable_is_up_with_a_child_sa_for_each_connection(cable: Cable, missing: int) -> None:
    facts = alive(cable)
    assert repair_plan.up((cable,), (facts,)) == {cable.id}
    assert repair_plan.up((cable,), (without_sa(cable, facts, missing),)) == set()


def test_pluto_is_not_asked_again_while_it_negotiates() -> None:
    cable = load("quickstart", "cluster2")
    facts = without_sa(cable, alive(cable), 0, 1)
    whole = connect_plan.plan((cable,), (facts,), wait=False)
    assert phases(whole) == {Phase.INITIATE}
    plan = repairs((cable,), (facts,))
    assert needed(plan) == []
    assert "pluto negotiates" in reasons(plan, Phase.INITIATE)


def test_a_connection_that_is_loaded_again_is_negotiated() -> None:
    cable = load("quickstart", "cluster2")
    plan = repairs((cable,), (BLANK,))
    lines = [step.argv for step in plan.needed if step.phase is Phase.INITIATE]
    assert lines == [whack.initiate(connection.name) for connection in cable.connections]


def test_a_silent_cable_is_deleted_loaded_and_negotiated(cable: Cable) -> None:
    assert not cable.initiates  # even the end that waits asks
    plan = repairs((cable,), (replace(alive(cable), silent=True),))
    names = [connection.name for connection in cable.connections]
    whacks = [step.argv for step in plan.needed]
    assert whacks[:2] == list(map(whack.delete, names))
    assert [argv[argv.index("--name") + 1] for argv in whacks[2:4]] == names
    assert whacks[4:] == list(map(whack.initiate, names))


def test_without_pluto_only_the_tables_of_nftables_are_loaded(cable: Cable) -> None:
    facts = replace(BLANK, pluto=Pluto.STARTABLE)
    whole = connect_plan.plan((cable,), (facts,), wait=False)
    plan = repair_plan.plan(whole, {cable.id}, {})
    assert Phase.PLUTO in phases(whole)
    assert phases(plan) == {Phase.GUARD, Phase.MSS}
    assert reasons(plan, Phase.PLUTO) == {"pluto isn't running"}


def test_nothing_is_done_for_a_cable_that_is_left_alone() -> None:
    facts = tuple(
        replace(found, overlay=replace(found.overlay, routes=frozenset()))
        for found in there(CABLES, CABLES)
    )
    plan = repairs(CABLES, facts, {SECOND: "torn down"})
    assert {step.cable for step in plan.needed} == {THIRD}
    assert "torn down" in {step.not_needed for step in plan.steps if step.cable == SECOND}


def test_the_secrets_are_not_read_for_a_cable_that_is_left_alone() -> None:
    first, second = CABLES
    facts = [replace(found, mss=there(CABLES, CABLES)[0].mss) for found in there(CABLES, (second,))]
    assert needed(repairs(CABLES, tuple(facts), {first.id: "torn down"})) == []
    lines = needed(repairs(CABLES, tuple(facts)))
    assert "ipsec whack --listen" in lines


def test_the_shared_device_waits_for_the_first_cable_that_is_up() -> None:
    facts = [replace(found, overlay=OverlayFacts()) for found in there(CABLES, CABLES)]
    down = tuple(without_sa(*pair, 0, 1) for pair in zip(CABLES, facts, strict=True))
    assert not phases(repairs(CABLES, down)) & {Phase.OVERLAY, Phase.UP}
    plan = repairs(CABLES, (facts[0], down[1]))
    assert {step.cable for step in plan.needed} == {"", SECOND}
    assert Phase.OVERLAY in phases(plan)


@pytest.mark.parametrize("local", ["cluster1", "cluster2"])
def test_the_end_that_begins_ends_what_pluto_goes_on_with(local: str) -> None:
    """pluto 4.x keeps the policies of Child SAs that have ended, and repeats its requests."""
    cable = load("quickstart", local)
    ended = without_sa(cable, alive(cable), 0, 1)
    kept = replace(
        ended,
        connections={name: replace(it, routed=True) for name, it in ended.connections.items()},
    )
    names = [connection.name for connection in cable.connections]
    deleted = [shlex.join(whack.delete(name)) for name in names]
    assert not set(deleted) & set(needed(connect_plan.plan((cable,), (ended,))))
    planned = needed(connect_plan.plan((cable,), (kept,)))
    assert (planned[:2] == deleted) == cable.initiates
    assert bool(set(deleted) & set(planned)) == cable.initiates
    half = replace(
        kept, connections=kept.connections | {names[0]: alive(cable).connections[names[0]]}
    )
    assert not set(deleted) & set(needed(connect_plan.plan((cable,), (half,))))
