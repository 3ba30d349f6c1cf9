"""The executor with several cables: each has its own fate. Every command is a stand-in."""

import os
import shlex
import signal
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, TimeLimitError
from cablectl.facts.host_facts import Facts, OverlayFacts, connected
from cablectl.libreswan import secrets_file
from cablectl.libreswan.pluto_commands import REREAD_SECRETS
from cablectl.linux import guard, xfrm
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.calls import Kind, calls
from cablectl.plan.steps import Outcome, Phase, Plan, Step
from cablectl.run import command, execute
from cablectl.run.command import SHELL
from tests.support.documents import meshed
from tests.support.examples import load
from tests.support.executor import TRAFFIC, MakePlan, Told, in_turn, words
from tests.support.plans import BLANK
from tests.support.signals import handled

STAND_IN = """\
#!/bin/sh
name=${{0##*/}}
case "$name $*" in
    "ipsec --directory") echo "{folder}"; exit 0 ;;
    *--trafficstatus) cat "{folder}/traffic"; exit 0 ;;
    *" --initiate --name "*) cat "{folder}/told"; exit 0 ;;
    "ip xfrm policy") cat "{folder}/policies"; exit 0 ;;
    *" -force -batch -")
        number=0 code=0
        while read -r line; do
            number=$((number + 1))
            printf '%s\\n' "$name $line" >>"{folder}/log"
            while read -r bad; do
                case "$name $line" in
                    *"$bad"*) echo "it broke"; echo "Command failed -:$number"; code=1 ;;
                esac
            done <"{folder}/fail_on" >&2
        done
        exit "$code" ;;
esac
printf '%s\\n' "$name $*" >>"{folder}/log"
while read -r bad; do
    case "$name $*" in *"$bad"*) echo "it broke"; exit 7 ;; esac
done <"{folder}/fail_on"
exit 0
"""
NAMES = ("sh", "ip", "bridge", "ipsec", "modprobe", "nft", "pidof", "rm", "systemctl", "whack")


class Host:
    """The stand-ins: what they ran, what they say, and which are to fail."""

    def __init__(self, folder: Path, cables: tuple[Cable, ...]) -> None:
        self._folder = folder
        for name in NAMES:
            (folder / name).write_text(STAND_IN.format(folder=folder))
            (folder / name).chmod(0o755)
        for name in ("log", "told", "fail_on"):
            (folder / name).write_text("")
        self.has(*cables)

    def has(self, *cables: Cable) -> None:
        """Have pluto and the kernel hold what these need."""
        connections = [each for cable in cables for each in cable.connections]
        lines = [TRAFFIC.format(i, each.name) for i, each in enumerate(connections)]
        (self._folder / "traffic").write_text("".join(lines))
        self.sees(*(xfrm.policies(each)[0] for each in connections))

    def sees(self, *policies: xfrm.Policy) -> None:
        text = (
            f"src {each.source} dst {each.destination} proto {each.protocol}"
            + (f" sport {each.source_port}" if each.source_port else "")
            + (f" dport {each.destination_port}" if each.destination_port else "")
            + f" \n\tdir {each.direction} priority 1 ptype main \n"
            for each in policies
        )
        (self._folder / "policies").write_text("".join(text))

    def says(self, line: str) -> None:
        (self._folder / "told").write_text(f"{line}\n")

    def fails(self, *parts: str) -> None:
        (self._folder / "fail_on").write_text("".join(f"{part}\n" for part in parts))

    @property
    def log(self) -> list[str]:
        return (self._folder / "log").read_text().splitlines()


@pytest.fixture
def cables() -> tuple[Cable, ...]:
    return meshed("transport vxlan v4 mesh", "cluster3")  # the lowest address: it initiates


@pytest.fixture
def host(tmp_path: Path, cables: tuple[Cable, ...], monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    return Host(tmp_path, cables)


def blank(cables: tuple[Cable, ...], limit: float = 1) -> Plan:
    return connect_plan.plan(cables, (BLANK,) * len(cables), limit=limit)


def up(cables: tuple[Cable, ...]) -> tuple[Facts, ...]:
    return tuple(connected(cable, BLANK, 1408) for cable in cables)


def apply(make_plan: MakePlan, told: Told) -> Outcome:
    return execute.apply("vxlan-tunnel", make_plan, told, wait=1)


def whole(cables: tuple[Cable, ...]) -> MakePlan:
    return in_turn(blank(cables), connect_plan.plan(cables, up(cables)))


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
        words((*step.argv[1:], "--route", "--initiate", "--asynchronous"))
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
    bad, good = cables
    host.sees(*(xfrm.policies(each)[0] for each in good.connections))
    host.fails(f"dst {bad.remote.address}/32 proto udp sport 4789")
    outcome = apply(whole(cables), Told())
    assert outcome.failed.keys() == {bad.id}
    assert "xfrm policy get" in outcome.failed[bad.id].details[0]


@pytest.mark.parametrize("part", [("--route",), ("--initiate", "--asynchronous")])
def test_what_one_whack_does_is_told_apart_when_it_fails(
    cables: tuple[Cable, ...], host: Host, part: tuple[str, ...]
) -> None:
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


def test_a_connection_that_changed_is_unloaded_and_then_loaded(
    cables: tuple[Cable, ...], host: Host
) -> None:
    first = cables[0].connections[0]
    facts = up(cables)
    loaded = facts[0].connections
    other = replace(loaded[first.name], esp=("something else",))
    changed = replace(facts[0], algorithms=(), connections={**loaded, first.name: other})
    plan = connect_plan.plan(cables, (changed, facts[1]))
    whacks = [line for line in map(words, (step.argv for step in plan.needed)) if "whack" in line]
    apply(in_turn(plan, connect_plan.plan(cables, facts)), Told())
    assert [line for line in host.log if line.startswith("whack ")] == [
        f"whack --delete --name {first.name}",
        next(line.removeprefix("ipsec ") for line in whacks if " --psk " in line)
        + " --route --initiate --asynchronous",
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
    left = connect_plan.plan(cables, (without_entry(bad), *up((good,))))
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


def test_with_one_cable_every_step_is_a_call_of_its_own() -> None:
    plan = connect_plan.plan((load("quickstart"),), (BLANK,))
    assert [call.steps for call in calls(plan)] == [(step,) for step in plan.needed]
    assert {call.kind for call in calls(plan)} == {Kind.ALONE, Kind.WAIT}
