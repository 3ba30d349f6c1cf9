"""connect ends with the cause if pluto has no interface for a connection, and undoes the rest."""

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Facts, connected
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.plan.steps import Phase
from tests.support.captures import by_release
from tests.support.examples import load, with_traps
from tests.support.executor import Commands, Told, apply, in_turn
from tests.support.plans import BLANK

(REFUSED,) = {
    output
    for command, output in by_release("unoriented")["4.10"]
    if command.startswith("ipsec whack --route") and output
}


def test_pluto_refuses_the_route(commands: Commands) -> None:
    cable = with_traps(load("quickstart", "cluster2"))
    plan, told = connect_plan.plan((cable,), (BLANK,)), Told()
    numbers = [number for number, step in enumerate(plan.needed, 1) if step.phase is Phase.ROUTE]
    commands.fails_with(REFUSED.strip())
    commands.fail_at(numbers[0])
    with pytest.raises(HostNotReadyError) as caught:
        apply(cable, lambda: plan, told)
    assert "pluto uses no interface that has 172.18.0.7" in caught.value.message
    assert REFUSED.strip() in caught.value.details
    assert "listen=" in caught.value.hint
    assert told.undone


def unoriented(cable: Cable) -> Facts:
    made = connected(cable, BLANK, 1408)
    return replace(
        made,
        connections={
            name: replace(loaded, routed=False, up=False, unoriented=True)
            for name, loaded in made.connections.items()
        },
    )


def test_all_commands_succeed_and_it_stays_unoriented(cable: Cable, commands: Commands) -> None:
    commands.established(*(connection.name for connection in cable.connections))
    plans = (connect_plan.plan((cable,), (facts,)) for facts in (BLANK, unoriented(cable)))
    told = Told()
    with pytest.raises(HostNotReadyError) as caught:
        apply(cable, in_turn(*plans), told)
    assert "pluto uses no interface that has 172.18.0.8" in caught.value.message
    assert told.undone
