"""The executor with several cables: each has its own fate. Every command is a stand-in."""

import os
import shlex
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.facts.host_facts import Algorithms, Facts, OverlayFacts
from cablectl.libreswan import secrets_file
from cablectl.libreswan.pluto_commands import REREAD_SECRETS
from cablectl.linux import guard, xfrm
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.calls import Kind, calls
from cablectl.plan.steps import Plan, Step
from cablectl.run import command, unanswered
from cablectl.run.command import SHELL
from tests.support.examples import load, with_traps
from tests.support.executor import Told, in_turn, words
from tests.support.mesh_host import Host, apply, blank, up, whole
from tests.support.plans import BLANK
from tests.support.signals import handled


def steps_of(plan: Plan, cable: Cable, failing: str) -> tuple[Step, list[Step]]:
    """Return the step that fails, and those of its cable that are done by then."""
    done: list[Step] = []
    for call in calls(plan):
        own = [step for step in call.steps if step.cable == cable.id]
        bad = next((step for step in own if failing in words(step.argv)), None)
        if bad is None:
            done += own
            continue
        return bad, done + [step for step in own if step is not bad]
    raise AssertionError(failing)


PARTS = {
    "secret": "/etc/ipsec.d/cablectl-cluster1-",
    "add": "--name submariner-cable-cluster1-172-18-0-8-1 --host",
    "fdb": "bridge fdb append 02:ca:ac:12:00:08",
    "neighbour": "ip neigh replace 241.18.0.8",
    "route": "ip route add 10.44.0.0/16",
}


@pytest.mark.parametrize("part", PARTS)
def test_a_failure_is_that_of_its_cable_alone(
    cables: tuple[Cable, ...], host: Host, part: str
) -> None:
    bad, good = cables
    host.fails(PARTS[part])
    told = Told()
    outcome = apply(whole(cables), told)
    assert outcome.failed.keys() == told.lost.keys() == {bad.id}
    step, done = steps_of(outcome.plan, bad, PARTS[part])
    assert outcome.failed[bad.id].details == (f"$ {shlex.join(step.argv)}", "it broke")
    assert told.undone == [argv for each in reversed(done) for argv in each.undo]
    for line in map(words, (each.argv for each in outcome.plan.needed if each.cable == good.id)):
        short = line.removeprefix("ipsec ")
        looked_at = any(each in line for each in ("policy get", "trafficstatus", " --name "))
        done_at_once = part != "secret" and "/etc/ipsec.d/" in line
        assert looked_at or done_at_once or any(each.startswith(short) for each in host.log), line
    assert all(any(each.name in line for line in host.log) for each in good.connections)


def test_a_policy_that_is_not_there_fails_its_cable(cables: tuple[Cable, ...], host: Host) -> None:
    cables = tuple(map(with_traps, cables))
    bad, good = cables
    host.sees(*(xfrm.policies(each)[0] for each in good.connections))
    host.fails(f"dst {bad.remote.address}/32 proto udp sport 4789")
    outcome = apply(whole(cables), Told())
    assert outcome.failed.keys() == {bad.id}
    assert "xfrm policy get" in outcome.failed[bad.id].details[0]


def test_a_connection_that_changed_is_unloaded_and_then_loaded(
    cables: tuple[Cable, ...], host: Host
) -> None:
    first = cables[0].connections[0]
    facts = up(cables)
    loaded = facts[0].connections
    other = replace(loaded[first.name], esp=("something else",))
    changed = replace(
        facts[0], algorithms=Algorithms(()), connections={**loaded, first.name: other}
    )
    plan = connect_plan.plan(cables, (changed, facts[1]))
    whacks = [line for line in map(words, (step.argv for step in plan.needed)) if "whack" in line]
    apply(in_turn(plan, connect_plan.plan(cables, facts)), Told())
    assert [line for line in host.log if line.startswith("whack ")] == [
        f"whack --delete --name {first.name}",
        next(line.removeprefix("ipsec ") for line in whacks if " --psk " in line)
        + " --initiate --asynchronous",
    ]


def test_the_files_of_many_are_those_of_each(tmp_path: Path, cables: tuple[Cable, ...]) -> None:
    """Both programs, with the directory of the test in place of Libreswan's."""
    key = tmp_path / "key"
    key.write_text("a key\n")
    written = []
    for name, argvs in (
        ("each", map(secrets_file.write, cables)),
        ("all", [secrets_file.write_all(cables)]),
    ):
        folder = tmp_path / name
        folder.mkdir()
        for argv in argvs:
            moved = (word.replace(secrets_file.DIRECTORY, str(folder)) for word in argv)
            run_here = [str(key) if word == "/etc/cablectl/psk" else word for word in moved]
            found = [str(tmp_path) if word == "/etc/cablectl" else word for word in run_here]
            command.run((SHELL, *found[1:]), 5, "secret")
        files = sorted(folder.iterdir())
        written.append([(file.name, file.stat().st_mode, file.read_text()) for file in files])
    assert written[0] == written[1]
    assert [text for _, _, text in written[1]] == [
        secrets_file.content(cable, b"a key").decode() for cable in cables
    ]


def test_what_all_share_is_everybodys_failure(cables: tuple[Cable, ...], host: Host) -> None:
    host.fails("ip link add")
    told = Told()
    with pytest.raises(CablectlError, match="overlay: the command failed"):
        apply(lambda: blank(cables), told)
    assert told.undone[-1] == guard.remove(cables[0])
    assert told.undone.count(REREAD_SECRETS) == 1
    for cable in cables:
        assert secrets_file.remove(cable.id)[0] in told.undone
        deleted = [argv[-1] for argv in told.undone if "--delete" in argv]
        assert {each.name for each in cable.connections} <= set(deleted)


def test_the_secrets_are_read_again_when_those_of_all_are_gone(
    cables: tuple[Cable, ...], host: Host
) -> None:
    """Or pluto would keep a key in its memory whose file is gone."""
    host.fails("ip link add")
    with pytest.raises(CablectlError):
        apply(lambda: blank(cables), Told())
    gone = [host.log.index(words(secrets_file.remove(cable.id)[0])) for cable in cables]
    last = max(i for i, line in enumerate(host.log) if line.endswith("--rereadsecrets"))
    assert len(gone) == 2
    assert max(gone) < last


def test_when_none_stands_what_is_shared_goes_as_well(
    cables: tuple[Cable, ...], host: Host
) -> None:
    host.fails("bridge fdb append")
    told = Told()
    outcome = apply(lambda: blank(cables), told)
    assert outcome.failed.keys() == {each.id for each in cables}
    assert ("ip", "link", "delete", "dev", "vxlan-tunnel") in told.undone
    assert told.undone[-1] == guard.remove(cables[0])
    assert not any("ip route" in line for line in host.log)


@pytest.mark.parametrize("refused", [True, False])
def test_one_peer_that_does_not_answer(
    cables: tuple[Cable, ...], host: Host, *, refused: bool
) -> None:
    bad, good = cables
    host.has(good)
    host.sees(*(xfrm.policies(each)[0] for cable in cables for each in cable.connections))
    if refused:
        host.says('002 "x" #2: IKE SA authentication request rejected: AUTHENTICATION_FAILED')
    told = Told()
    outcome = apply(whole(cables), told)
    (error,) = outcome.failed.values()
    assert isinstance(error, TimeLimitError) is not refused
    assert bad.connections[0].name in error.message
    assert secrets_file.remove(bad.id)[0] in told.undone
    assert guard.remove(bad) not in told.undone
    assert any(f"via {good.remote_vtep.ip}" in line for line in host.log)
    assert not any(f"via {bad.remote_vtep.ip}" in line for line in host.log)


def test_both_do_not_answer(cables: tuple[Cable, ...], host: Host) -> None:
    host.has()
    host.sees(*(xfrm.policies(each)[0] for cable in cables for each in cable.connections))
    told = Told()
    outcome = apply(lambda: blank(cables), told)
    assert {type(error) for error in outcome.failed.values()} == {TimeLimitError}
    assert told.undone[-1] == guard.remove(cables[0])
    assert not any("ip link" in line for line in host.log)


def test_what_is_still_to_do_is_that_of_its_cable(cables: tuple[Cable, ...], host: Host) -> None:
    bad, good = cables
    complete = up(cables)
    lost = replace(complete[0], overlay=without_entry(bad).overlay)
    left = connect_plan.plan(cables, (lost, complete[1]))
    told = Told()
    outcome = apply(in_turn(blank(cables), left), told)
    assert outcome.failed.keys() == {bad.id}
    assert "still to do" in outcome.failed[bad.id].message
    assert secrets_file.remove(bad.id)[0] in told.undone
    assert secrets_file.remove(good.id)[0] not in told.undone


def without_entry(cable: Cable) -> Facts:
    """Return the facts of a cable whose forwarding entry is gone again."""
    (facts,) = up((cable,))
    return replace(facts, overlay=replace(facts.overlay, fdb=frozenset()))


def test_teardown_of_one_fails_and_the_guard_stays(cables: tuple[Cable, ...], host: Host) -> None:
    bad, good = cables
    host.fails(f"--delete --name {bad.connections[0].name}")
    plan = teardown_plan.plan(cables, up(cables))
    told = Told()
    without_device = replace(up((bad,))[0], overlay=OverlayFacts())
    left = teardown_plan.plan(cables, (without_device, BLANK))
    outcome = apply(in_turn(plan, left), told)
    assert outcome.failed.keys() == {bad.id}
    assert words(secrets_file.remove(good.id)[0]) in host.log
    assert words(secrets_file.remove(bad.id)[0]) not in host.log
    assert words(guard.remove(good)) not in host.log
    assert told.undone == []


def test_a_device_that_stays_keeps_all_policies(cables: tuple[Cable, ...], host: Host) -> None:
    host.fails("ip link delete")
    with pytest.raises(CablectlError, match="unlink"):
        apply(lambda: teardown_plan.plan(cables, up(cables)), Told())
    assert not any("--delete" in line for line in host.log)


def test_ctrl_c_undoes_all_that_was_begun(
    cables: tuple[Cable, ...], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.has()
    host.sees(*(xfrm.policies(each)[0] for cable in cables for each in cable.connections))
    told = Told()

    def waiting(*_: object) -> None:
        os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(told, "waiting", waiting)
    with handled(), pytest.raises(KeyboardInterrupt):
        apply(lambda: blank(cables, limit=30), told)
    assert told.undone[-1] == guard.remove(cables[0])
    assert {secrets_file.remove(cable.id)[0] for cable in cables} <= set(told.undone)


def test_with_one_cable_every_step_is_a_call_of_its_own_but_for_the_wait() -> None:
    plan = connect_plan.plan((load("quickstart"),), (BLANK,))
    made = calls(plan)
    assert tuple(step for call in made for step in call.steps) == plan.needed
    assert all(
        (call.kind is Kind.WAIT) == any(step.waits_for for step in call.steps) for call in made
    )
    assert [len(call.steps) for call in made if call.kind is Kind.WAIT] == [2]
    assert {len(call.steps) for call in made if call.kind is Kind.ALONE} == {1}


def test_what_other_cables_negotiate_goes_on_when_one_is_loaded_again(
    cables: tuple[Cable, ...], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended: list[set[str]] = []
    monkeypatch.setattr(unanswered, "end", lambda names, *_: ended.append(set(names)))
    first, facts = cables[0], up(cables)
    changed = replace(facts[0], algorithms=Algorithms(()))
    loaded = {name: replace(each, esp=("other",)) for name, each in facts[0].connections.items()}
    plan = connect_plan.plan(cables, (replace(changed, connections=loaded), facts[1]))
    apply(in_turn(plan, connect_plan.plan(cables, facts)), Told())
    assert ended == [set(first.names)]
    assert host.log
