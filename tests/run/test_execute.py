"""The executor, with real processes: every command on the PATH is a stand-in that keeps a log.

`sh` forks by itself, so nothing less than a program can stand in for one.
"""

import shlex
from collections.abc import Iterable

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.facts.host_facts import Facts, connected
from cablectl.host import daemon, reading
from cablectl.libreswan import pluto, whack
from cablectl.libreswan.pluto import ChildSa, Negotiations
from cablectl.linux import guard, guard_file, mss, watch_file
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, ipsec, teardown_plan
from cablectl.plan.steps import Action, Phase, Plan, Step
from cablectl.run import execute, waiting
from cablectl.run.negotiation import Timekeeper
from tests.support.examples import load
from tests.support.executor import (
    TRAFFIC,
    Commands,
    Told,
    apply,
    in_turn,
    words,
)
from tests.support.plans import BLANK


def made(cable: Cable) -> Facts:
    return connected(cable, BLANK, 1408)


def test_connect_runs_every_step_and_proves_it(cable: Cable, commands: Commands) -> None:
    commands.established(*(each.name for each in cable.connections))
    plan, told = connect_plan.plan((cable,), (BLANK,)), Told()
    apply(cable, in_turn(plan, connect_plan.plan((cable,), (made(cable),))), told)
    assert commands.log == [words(step.argv) for step in plan.needed if not step.waits_for]
    assert told.warnings == ()
    assert told.steps == [(i, len(plan.needed)) for i in range(1, len(plan.needed) + 1)]
    assert told.undone == []


def test_nothing_to_do_runs_nothing(cable: Cable, commands: Commands) -> None:
    apply(cable, lambda: connect_plan.plan((cable,), (made(cable),)), Told())
    assert commands.log == []


def test_not_waiting_asks_for_no_sas(commands: Commands) -> None:
    cable, told = load("quickstart", "cluster2"), Told()
    loaded = connected(cable, BLANK, 1408, up=False)
    plans = (connect_plan.plan((cable,), (facts,), wait=False) for facts in (BLANK, loaded))
    apply(cable, in_turn(*plans), told)
    assert told.undone == []
    assert any("--initiate" in line for line in commands.log)


def failing_steps() -> list[int]:
    plan = connect_plan.plan((load("quickstart", "cluster2"),), (BLANK,))
    return list(range(1, 1 + sum(not step.waits_for for step in plan.needed)))


@pytest.mark.parametrize("number", failing_steps())
def test_a_failure_at_any_step_is_undone_exactly(commands: Commands, number: int) -> None:
    cable, told = load("quickstart", "cluster2"), Told()
    commands.established(*(each.name for each in cable.connections))
    commands.fail_at(number)
    steps = [step for step in connect_plan.plan((cable,), (BLANK,)).needed if not step.waits_for]
    with pytest.raises(CablectlError) as caught:
        apply(cable, lambda: connect_plan.plan((cable,), (BLANK,)), told)
    assert caught.value.exit_code == 1
    assert caught.value.message.endswith("failed with exit code 7")
    assert caught.value.details == (f"$ {shlex.join(steps[number - 1].argv)}", "it broke")
    unwound = [argv for step in reversed(steps[: number - 1]) for argv in step.undo]
    assert told.undone == unwound
    assert commands.log == [words(step.argv) for step in steps[:number]] + list(map(words, unwound))


def test_a_peer_that_connects_anew_meanwhile_is_waited_for(
    cable: Cable, commands: Commands
) -> None:
    """The cable was up when it was read first; then the peer deleted its Child SAs."""
    commands.established(*cable.names)
    whole = made(cable)
    without_route = replace(whole, overlay=replace(whole.overlay, routes=frozenset()))
    down = connected(cable, BLANK, 1408, up=False)
    plans = [connect_plan.plan((cable,), (facts,)) for facts in (without_route, down, whole)]
    assert [step.phase for step in plans[1].needed] == [Phase.WAIT] * 2
    told = Told()
    apply(cable, in_turn(*plans), told)
    assert told.undone == []
    assert len(told.steps) == 3


@pytest.mark.parametrize("silent", [False, True])
def test_a_cable_whose_connections_were_deleted_is_known_as_changed(
    cable: Cable, commands: Commands, monkeypatch: pytest.MonkeyPatch, silent: bool
) -> None:
    """Its peer may change as well, and forget what was begun."""
    known = list[set[str]]()

    class Keeper(Timekeeper):
        def __init__(self, cables: Iterable[Cable], changed: Iterable[str] = ()) -> None:
            known.append(set(changed))
            super().__init__(cables, known[-1])

    monkeypatch.setattr(waiting, "Timekeeper", Keeper)
    commands.established(*cable.names)
    before = replace(made(cable), silent=True) if silent else BLANK
    plans = (connect_plan.plan((cable,), (facts,)) for facts in (before, made(cable)))
    apply(cable, in_turn(*plans), Told())
    assert known == [{cable.id} if silent else set()]


@pytest.mark.parametrize("before", [0, 1])
@pytest.mark.parametrize("busy", [2, 3])
def test_a_pluto_that_is_too_busy_to_be_read_is_read_again(
    cable: Cable, commands: Commands, busy: int, before: int
) -> None:
    """In a mesh that starts at once; at the end, all that was done would be undone."""
    commands.established(*cable.names)
    reads, hosts = iter(range(busy + 2)), iter((BLANK, made(cable)))

    def make_plan() -> Plan:
        if before <= next(reads) < before + busy:
            raise TimeLimitError("no answer in 5 s")
        return connect_plan.plan((cable,), (next(hosts),))

    told = Told()
    if busy < execute.READ_TRIES:
        apply(cable, make_plan, told)
        assert told.undone == []
    else:
        with pytest.raises(TimeLimitError, match="no answer"):
            apply(cable, make_plan, told)
        assert bool(told.undone) == bool(before)


def test_a_child_sa_too_many_is_deleted_before_connect_ends(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once it has settled; the peer may have asked at the same time."""
    slept = list[float]()
    monkeypatch.setattr("time.sleep", slept.append)
    cable = load("quickstart", "cluster2")  # the end that begins
    commands.established(*cable.names)
    whole = made(cable)
    (first, loaded), *others = whole.connections.items()

    def having(*sas: ChildSa, age: float = 0) -> Plan:
        new = replace(loaded, child_sas=sas, serials=tuple(sa.serial for sa in sas), age=age)
        connections = {first: new, **dict(others)}
        return connect_plan.plan((cable,), (replace(whole, connections=connections),))

    old, newer, newest = ChildSa(7, 1000, 0, 0), ChildSa(9, 1001, 0, 0), ChildSa(11, 1009, 0, 0)
    plans = [
        connect_plan.plan((cable,), (BLANK,)),
        having(old, newer, age=1),
        having(old, newer, age=pluto.SETTLED),
        having(newer, newest, age=3),  # the peer asked once more
        having(newer, newest, age=pluto.SETTLED),
        having(newer, newest, age=pluto.SETTLED + 1),  # pluto waits for the peer's answer
    ]
    told = Told()
    apply(cable, in_turn(*plans), told)
    assert told.undone == []
    assert [slept.count(pluto.SETTLED - age) for age in (1, 3)] == [1, 1]
    assert commands.log[-2:] == [words(whack.retire(each)) for each in (7, 9)]


def test_a_child_sa_too_many_that_pluto_is_too_busy_to_delete_does_no_harm(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """whack doesn't end, and pluto goes on to list the Child SA."""
    monkeypatch.setattr(ipsec, "RETIRE_LIMIT", 0.3)
    cable = load("quickstart", "cluster2")
    whole = made(cable)
    (first, loaded), *others = whole.connections.items()
    two = ChildSa(7, 1000, 0, 0), ChildSa(9, 1001, 0, 0)
    doubled = replace(loaded, child_sas=two, serials=(7, 9), age=pluto.SETTLED)
    plan = connect_plan.plan(
        (cable,), (replace(whole, connections={first: doubled, **dict(others)}),)
    )
    program = commands.folder / "ipsec"
    text = program.read_text()
    program.write_text(
        text.replace('case "$*" in', 'case "$*" in\n    *--deletestate*) exec sleep 9 ;;', 1)
    )
    assert program.read_text() != text
    told = Told()
    apply(cable, lambda: plan, told)
    assert told.undone == []


def test_commands_that_succeed_and_do_nothing_are_found_out(
    cable: Cable, commands: Commands
) -> None:
    commands.established(*(each.name for each in cable.connections))
    told = Told()
    with pytest.raises(CablectlError, match="still to do") as caught:
        apply(cable, lambda: connect_plan.plan((cable,), (BLANK,)), told)
    assert any("ip link add" in line for line in caught.value.details)
    assert ("ip", "link", "delete", "dev", "vxlan-tunnel") in told.undone


def test_a_watch_whose_repair_is_rolled_back_goes_on_to_keep_its_cable(
    cable: Cable, commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A delete fails, so the rest is torn down, but not the file by which the watch keeps it."""
    told, left = Told(), replace(made(cable), watched=True)
    monkeypatch.setattr(reading, "facts_of", lambda _: (left,))
    broken = commands.folder / "nft"
    broken.write_text("#!/bin/sh\ncase $* in delete*) exit 9 ;; esac\n")
    commands.fail_at(1)
    with pytest.raises(CablectlError):
        apply(cable, lambda: connect_plan.plan((cable,), (BLANK,)), told)
    assert ("ip", "link", "delete", "dev", "vxlan-tunnel") in told.undone
    assert watch_file.remove(cable) not in told.undone


def test_an_undo_that_fails_hides_neither_the_error_nor_the_rest(
    cable: Cable, commands: Commands
) -> None:
    told = Told()
    commands.established(*(each.name for each in cable.connections))
    commands.loaded(*(each.name for each in cable.connections))
    (commands.folder / "sh").write_text("#!/bin/sh\n")  # the secret: not in the log
    logged = [
        step.argv for step in connect_plan.plan((cable,), (BLANK,)).needed if step.argv[0] != "sh"
    ]
    link = next(i for i, argv in enumerate(logged, start=1) if argv[:3] == ("ip", "link", "add"))
    broken = commands.folder / "ipsec"
    broken.write_text(
        broken.read_text().replace('case "$*" in', 'case "$*" in\n    *--delete*) exit 9 ;;')
    )
    commands.fail_at(link)
    with pytest.raises(CablectlError, match="overlay: the command failed"):
        apply(cable, lambda: connect_plan.plan((cable,), (BLANK,)), told)
    assert told.not_undone == ["add: the command failed with exit code 9"] * 2
    assert words(told.undone[-3]) == "ipsec whack --rereadsecrets"
    assert told.undone[-2] == mss.remove(mss.name(cable))
    assert told.undone[-1] == guard.remove(cable)


def test_teardown_finishes_the_phase_and_leaves_the_policies_to_a_device_that_is_there(
    cable: Cable, commands: Commands
) -> None:
    plan = teardown_plan.plan((cable,), (made(cable),))
    commands.fail_at(1)
    with pytest.raises(CablectlError) as caught:
        apply(cable, in_turn(plan, teardown_plan.plan((cable,), (BLANK,))), Told())
    assert caught.value.details[0] == f"$ {shlex.join(plan.needed[0].argv)}"
    unlink = [words(step.argv) for step in plan.needed if step.phase is Phase.UNLINK]
    assert len(unlink) == 4
    assert commands.log == unlink


@pytest.mark.parametrize("remains", [False, True])
def test_a_connection_that_is_gone_was_deleted_whatever_whack_says(
    cable: Cable, commands: Commands, remains: bool
) -> None:
    """5.2 exits with 52 where it had a second IKE SA."""
    plan = teardown_plan.plan((cable,), (made(cable),))
    first = next(i for i, step in enumerate(plan.needed, 1) if step.phase is Phase.DELETE)
    commands.fail_at(first)
    commands.loaded(*(cable.names if remains else ()))
    told, read = Told(), in_turn(plan, teardown_plan.plan((cable,), (BLANK,)))
    if remains:
        with pytest.raises(CablectlError, match="delete: the command failed with exit code 7"):
            apply(cable, read, told)
    else:
        apply(cable, read, told)
        assert commands.log == [words(step.argv) for step in plan.needed]


def test_teardown_tells_the_first_failure_of_its_last_phase(
    cable: Cable, commands: Commands
) -> None:
    plan = teardown_plan.plan((cable,), (made(cable),))
    *forgotten, let_go, unguard = plan.needed
    commands.fail_at(len(forgotten) - 1)
    with pytest.raises(CablectlError, match="forget: the command failed"):
        apply(cable, in_turn(plan, teardown_plan.plan((cable,), (BLANK,))), Told())
    assert commands.log == [words(step.argv) for step in forgotten]
    assert (let_go.argv, unguard.argv) == (guard_file.remove(cable), guard.remove(cable))


class TestWaiting:
    def plan(self, cable: Cable) -> Plan:
        return connect_plan.plan((cable,), (BLANK,), limit=1)

    def test_no_answer_is_a_time_limit(self, cable: Cable, commands: Commands) -> None:
        commands.established(cable.connections[0].name)
        told = Told()
        with pytest.raises(TimeLimitError, match="no answer from the peer") as caught:
            apply(cable, lambda: self.plan(cable), told)
        assert cable.connections[1].name in caught.value.message
        assert caught.value.exit_code == 4
        assert told.undone

    def test_a_peer_that_answers_at_the_last_moment_is_up(
        self, cable: Cable, commands: Commands
    ) -> None:
        lines = (TRAFFIC.format(1, each.name) for each in cable.connections)
        (commands.folder / "late").write_text("".join(lines))
        told = Told()
        plans = (self.plan(cable), connect_plan.plan((cable,), (made(cable),)))
        apply(cable, in_turn(*plans), told)
        assert told.undone == []

    def test_a_refusal_is_a_failure_with_its_reason(self, cable: Cable, commands: Commands) -> None:
        line = '002 "x" #2: IKE SA authentication request rejected by peer: AUTHENTICATION_FAILED'
        (commands.folder / "told").write_text(f"002 something else\n{line}\n")
        with pytest.raises(CablectlError, match="authentication failed") as caught:
            apply(cable, lambda: self.plan(cable), Told())
        assert caught.value.exit_code == 1
        assert caught.value.details == (line,)


def test_a_command_cut_off_by_its_limit_is_undone_too(cable: Cable, commands: Commands) -> None:
    """Whether it was done nobody knows."""
    slow = Step(
        phase=Phase.ADD,
        argv=("/bin/sleep", "60"),
        why="",
        undo=(("rm", "what it made"),),
        limit=0.5,
    )
    plan = Plan(action=Action.CONNECT, cables=(cable,), facts=(BLANK,), steps=(slow,))
    with pytest.raises(TimeLimitError):
        apply(cable, lambda: plan, Told())
    assert commands.log == ["rm what it made"]


def test_negotiations_are_what_pluto_says(cable: Cable, commands: Commands) -> None:
    name = cable.connections[0].name
    assert daemon.negotiations() == Negotiations(frozenset(), frozenset())
    commands.established(name)
    assert daemon.negotiations() == Negotiations(frozenset({name}), frozenset())
