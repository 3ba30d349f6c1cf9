"""How the connections of several cables are loaded: in one whack each, or step by step."""

import shlex

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError
from cablectl.facts.host_facts import connected
from cablectl.libreswan import secrets_file
from cablectl.libreswan.dialects import Version
from cablectl.linux import mss
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.plan.steps import Phase
from cablectl.run import execute
from tests.support.examples import with_traps
from tests.support.executor import Commands, Told, in_turn, words
from tests.support.mesh_host import Host, apply, blank, whole
from tests.support.plans import BLANK


def test_each_is_loaded_by_one_whack_and_the_entries_are_made_at_once(
    cables: tuple[Cable, ...], host: Host
) -> None:
    told = Told()
    outcome = apply(whole(cables), told)
    assert (outcome.failed, told.undone) == ({}, [])
    total = len(outcome.plan.needed)
    assert told.steps == [(number, total) for number in range(1, total + 1)]
    whacks = [line for line in host.log if line.startswith("whack ")]
    loads = [
        words((*step.argv[1:], "--initiate", "--asynchronous"))
        for step in outcome.plan.needed
        if step.phase is Phase.ADD
    ]
    assert whacks == ["whack --listen", *loads]
    # The key is read once, one listing shows all policies; all else is as the plan has it.
    merged = [*map(words, (step.argv for step in outcome.plan.needed if not step.waits_for))]
    known = ("whack", "policy get", "/etc/ipsec.d")
    left = [line for line in merged if not any(each in line for each in known)]
    assert [line for line in host.log if not any(each in line for each in known)] == left
    assert host.log.count(words(secrets_file.write_all(cables))) == 1


@pytest.mark.parametrize("part", [("--route",), ("--initiate", "--asynchronous")])
def test_what_one_whack_does_is_told_apart_when_it_fails(
    cables: tuple[Cable, ...], host: Host, part: tuple[str, ...]
) -> None:
    cables = tuple(map(with_traps, cables))
    bad, _ = cables
    step = next(
        step
        for step in blank(cables).needed
        if step.cable == bad.id and step.argv[2 : 2 + len(part)] == part
    )
    at_once = f"--to --host {bad.remote.address} --clientprotoport udp --ikeport 4500"
    host.fails(f"{at_once} --dpdaction hold --dpddelay 30 --route", words(step.argv[2:]))
    outcome = apply(whole(cables), Told())
    assert outcome.failed.keys() == {bad.id}
    assert outcome.failed[bad.id].details[0] == f"$ {shlex.join(step.argv)}"


def test_a_release_that_combines_nothing_gets_a_whack_for_each_step(
    cables: tuple[Cable, ...], host: Host
) -> None:
    facts = tuple(replace(BLANK, libreswan=Version(5, 3)) for _ in cables)
    table = mss.wanted(cables, 1408)
    made = tuple(
        replace(connected(cable, each, 1408), mss=table)
        for cable, each in zip(cables, facts, strict=True)
    )
    outcome = apply(
        in_turn(connect_plan.plan(cables, facts, limit=1), connect_plan.plan(cables, made)), Told()
    )
    assert outcome.failed == {}
    whacks = [line.removeprefix("whack ") for line in host.log if line.startswith("whack ")]
    names = [connection.name for cable in cables for connection in cable.connections]
    assert whacks[0] == "--listen"
    for name, add, initiate in zip(names, whacks[1::2], whacks[2::2], strict=True):
        assert f" --name {name} " in add
        assert initiate == f"--initiate --asynchronous --name {name}"


def test_a_connection_that_the_failed_call_has_loaded_is_loaded(
    cables: tuple[Cable, ...], host: Host
) -> None:
    """The combined call fails at the route; pluto then refuses to add the connection again."""
    cables = tuple(map(with_traps, cables))
    bad, _ = cables
    name = bad.connections[1].name
    host.fails(f"--name {name} --host")
    host.fails_with('020 attempt to redefine connection "x"')
    outcome = apply(whole(cables), Told())
    assert outcome.failed == {}
    added = [line for line in host.log if f"--name {name} --host" in line]
    assert [line.endswith(" --route --initiate --asynchronous") for line in added] == [True, False]
    assert f"whack --route --name {name}" in host.log


def test_a_connection_that_another_program_loads_meanwhile_is_an_error(
    cable: Cable, commands: Commands
) -> None:
    plan = connect_plan.plan((cable,), (BLANK,))
    adds = [place for place, step in enumerate(plan.needed, 1) if step.phase is Phase.ADD]
    commands.fail_at(adds[0])
    commands.fails_with('020 attempt to redefine connection "x"')
    with pytest.raises(CablectlError, match="add: the command failed"):
        execute.apply([cable.bundle], in_turn(plan), Told(), wait=1)


def test_a_connection_that_a_late_whack_has_loaded_is_loaded(
    cable: Cable, commands: Commands
) -> None:
    """pluto was busy at the first try, and has loaded the connection when whack tries again."""
    commands.established(*cable.names)
    whack = commands.folder / "ipsec"
    late = """\
case "$*" in
    "whack --psk "*) mkdir "{folder}/tried.$6" && exec sleep 60
        echo '020 attempt to redefine connection "x"'; exit 20 ;;
esac
"""
    head, _, rest = whack.read_text().partition("\n")
    whack.write_text(f"{head}\n{late.format(folder=commands.folder)}{rest}")
    blank = connect_plan.plan((cable,), (BLANK,))
    steps = tuple(
        replace(step, limit=0.5) if step.phase is Phase.ADD else step for step in blank.steps
    )
    made = connect_plan.plan((cable,), (connected(cable, BLANK, 1408),))
    told = Told()
    execute.apply([cable.bundle], in_turn(replace(blank, steps=steps), made), told, wait=1)
    assert told.undone == []
