"""A mesh at the command line: which peers a command is for, and what it says of many."""

import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from msgspec.structs import replace
from pytest_subprocess import FakeProcess

from cablectl.cli import running
from cablectl.cli import verify as command
from cablectl.errors import CablectlError, ClientAwayError, HostNotReadyError, TimeLimitError
from cablectl.facts.host_facts import Credential
from cablectl.host import ipsec_state, kernel, keys, paths, probe, reading
from cablectl.libreswan import secrets_file
from cablectl.linux import nftables
from cablectl.model.cable import Cable
from cablectl.model.psk import PskFile
from cablectl.plan import connect_plan
from cablectl.plan.steps import Outcome
from cablectl.render import status_table
from cablectl.status import state
from cablectl.status.report import Verdict
from cablectl.verification.observe import observation
from cablectl.verification.proof import Evidence
from tests.support.alive import NOW, alive, report
from tests.support.evidence import evidence
from tests.support.gateway import ETH0, LINK, ROUTES, RULES, WAYS
from tests.support.meshes import CABLES, SECOND, THIRD
from tests.support.places import CAPTURES, EXAMPLES
from tests.support.plans import BLANK
from tests.support.program import complete, run

MESH = str(EXAMPLES / "mesh.yaml")
DRY = ("plan", MESH, "--dry-run", "--libreswan", "4.10", "--local", "cluster1")


class TestPeer:
    def test_narrows_a_plan(self) -> None:
        for name in ("cluster3", "cluster3-worker", "172.18.0.6"):
            done = run(*DRY, "--peer", name)
            assert "172-18-0-6" in done.stdout
            assert "172-18-0-7" not in done.stdout
        assert run(*DRY, "--peer", "cluster2", "--peer", "cluster3").stdout == run(*DRY).stdout

    def test_a_teardown_of_one_leaves_what_others_need(self) -> None:
        dry = ("teardown", MESH, "--local", "cluster1", "--dry-run")
        done = run(*dry, "--peer", "cluster3")
        assert "\n# not needed (other peers need it): ip link delete" in done.stdout
        assert "\nip link delete dev vxlan-tunnel\n" in run(*dry).stdout

    @pytest.mark.parametrize("name", ["cluster1", "nobody"])
    def test_is_one_of_the_others(self, name: str) -> None:
        done = run(*DRY, "--peer", name)
        assert (done.returncode, done.stdout) == (2, "")
        assert f"--peer {name!r}" in done.stderr

    @pytest.mark.parametrize("of", ["status", "offload"])
    def test_goes_with_a_file(self, of: str) -> None:
        done = run(of, "--peer", "cluster2")
        assert (done.returncode, done.stderr) == (2, "cablectl: --peer needs a FILE\n")

    def test_is_completed(self) -> None:
        for of in ("plan", "connect", "teardown", "status", "verify", "offload"):
            done = complete("cablectl", of, MESH, "--local", "cluster1", "--peer", "cluster3")
            assert done.stdout.split() == ["cluster3", "cluster3-worker"]


def test_json_of_a_mesh() -> None:
    told = json.loads(run(*DRY, "--format", "json").stdout)["result"]
    assert [each["remote"] for each in told["cables"]] == ["cluster2", "cluster3"]


class TestFailures:
    """What failed of several cables is told in one error."""

    plan = connect_plan.plan(CABLES, (BLANK, BLANK))

    def error(self, failed: dict[str, CablectlError]) -> CablectlError:
        with pytest.raises(CablectlError) as caught:
            running.refuse_failed(Outcome(self.plan, failed))
        return caught.value

    def test_none(self) -> None:
        running.refuse_failed(Outcome(self.plan))

    def test_each_is_named(self) -> None:
        broke = CablectlError("add: it broke", hint="mend it", details=["$ it"])
        told = self.error({THIRD: broke})
        assert (told.message, told.hint) == ("1 of 2 cables failed", "mend it")
        assert told.details == (f"{THIRD}: add: it broke", "  $ it")
        assert told.exit_code == 1

    def test_by_time_alone(self) -> None:
        late = TimeLimitError("too late")
        assert self.error({SECOND: late, THIRD: late}).exit_code == 4
        assert self.error({SECOND: late, THIRD: CablectlError("it broke")}).exit_code == 1

    def test_those_that_wait_for_their_clients(self) -> None:
        away, late = ClientAwayError("away"), TimeLimitError("too late")
        told = self.error({SECOND: away})
        assert (told.message, told.exit_code) == ("1 of 2 cables waits for its client", 5)
        told = self.error({SECOND: away, THIRD: away})
        assert (told.message, told.exit_code) == ("2 of 2 cables wait for their clients", 5)
        assert self.error({SECOND: away, THIRD: late}).exit_code == 4

    def test_one_that_had_no_plan_is_one_of_them(self) -> None:
        plan = connect_plan.plan(CABLES, (replace(BLANK, credential=Credential.OTHER), BLANK))
        with pytest.raises(CablectlError, match="1 of 2 cables failed"):
            running.refuse_failed(Outcome(plan))


def test_verify_takes_every_peer_in_turn(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen: list[str] = []

    def verified(cable: Cable, count: int, *, sizes: bool) -> Evidence:
        seen.append(cable.id)
        return evidence(cable=cable, lost=int(cable.id == SECOND))

    monkeypatch.setattr(observation, "verify", verified)
    with pytest.raises(typer.Exit) as caught:
        command.verify([MESH], local="cluster1")
    assert caught.value.exit_code == 1  # though the last one is proven
    assert seen == [SECOND, THIRD]
    first, second = capsys.readouterr().out.split("\n\n")
    assert first.splitlines()[-1] == "not proven: lost"
    assert second.splitlines()[-1] == "encrypted"
    command.verify([MESH], local="cluster1", peer=["cluster3"])
    assert seen == [SECOND, THIRD, THIRD]


class TestStatus:
    def shown(self, count: int) -> list[str]:
        up, down = (state.of(CABLES[0], facts, NOW) for facts in (alive(CABLES[0]), BLANK))
        told = [replace(up, cable=f"submariner-cable-c{i}-10-0-0-{i}") for i in range(count - 1)]
        stream = io.StringIO()
        status_table.print_table(report(*told, down), stream)
        return stream.getvalue().splitlines()

    def test_a_few_are_shown_whole(self) -> None:
        assert sum("Child SA" in line for line in self.shown(status_table.MAX_BLOCKS)) >= 7

    def test_many_are_a_line_each(self) -> None:
        lines = self.shown(1000)
        assert lines[0].split() == [
            *("submariner-cable-c0-10-0-0-0", "up", "1.6", "kB", "in", "2.5", "kB", "out"),
        ]
        assert lines[999].split() == ["submariner-cable-cluster2-172-18-0-7", Verdict.DOWN]
        assert lines[1000:] == [
            "  - this host has nothing of the cable",
            "1000 cables: 999 up, 1 down",
        ]


@pytest.fixture
def gateway(
    fp: FakeProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[FakeProcess]:
    """A gateway on which nothing of the mesh is there but its device, with one peer."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(kernel, "has_module", lambda name: True)
    monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path))
    answers: dict[str, Any] = {
        "ipsec --version": "Libreswan 4.10\n",
        "ipsec --directory": "",  # then `ipsec whack` runs
        WAYS: '[{"dst":"172.18.0.7","dev":"eth0"}]\n[{"dst":"172.18.0.6","dev":"eth1"}]\n',
        "ip -j link show dev eth0": [{"mtu": 1500}],
        "ip -j link show dev eth1": [{"mtu": 1400}],
        "ipsec whack --status": "",
        "ipsec whack --trafficstatus": "",
        "ip xfrm policy": "",
        "ip -s -d xfrm state list nokeys": "",
        "ip -N -d -j address": [ETH0, LINK],
        "bridge -j fdb show dev vxlan-tunnel": [
            {"mac": cable.mac_of(cable.remote), "dst": str(cable.remote.address)}
            for cable in CABLES
        ],
        "ip -j neigh show dev vxlan-tunnel nud permanent": [],
        "ip -N -j -4 route show table all proto 241": ROUTES,
        "ip -N -j -4 route show table 24141": [],
        "ip -N -j -4 rule": RULES,
        "nft -j list table inet cablectl_vxlan-tunnel": '{"nftables": []}',
        "nft -j list table inet cablectl-mss_vxlan-tunnel": "",
        "ethtool --json -k eth0": [{}],
        "ethtool --json -k eth1": [{}],
    }
    for line, answer in answers.items():  # each is registered, and so may be run, once
        fp.register(line.split(), stdout=answer if isinstance(answer, str) else json.dumps(answer))
    yield fp
    assert len(fp.calls) == len(answers)


@pytest.fixture
def key(tmp_path: Path) -> PskFile:
    file = tmp_path / "psk"
    file.write_text("correct horse battery staple, and more")
    file.chmod(0o600)
    return PskFile(str(file))


@pytest.mark.usefixtures("gateway")
def test_facts_of_all_cables_are_read_once(key: PskFile) -> None:
    cables = tuple(replace(each, ipsec=replace(each.ipsec, psk=key)) for each in CABLES)
    second, third = reading.facts_of(cables)
    assert [its.path_mtu for its in (second, third)] == [1500, 1400]
    assert [its.nic and its.nic.device for its in (second, third)] == ["eth0", "eth1"]
    assert second.overlay.fdb == {("02:ca:ac:12:00:07", "172.18.0.7")}
    assert third.overlay.fdb == {("02:ca:ac:12:00:06", "172.18.0.6")}
    assert {len(its.overlay.routes) for its in (second, third)} == {1, 0}
    assert second.overlay.stale_peers == third.overlay.stale_peers == ()


@pytest.mark.usefixtures("gateway")
def test_of_one_cable_alone_the_other_peer_is_seen(key: PskFile, fp: FakeProcess) -> None:
    (its,) = reading.facts_of((replace(CABLES[0], ipsec=replace(CABLES[0].ipsec, psk=key)),))
    assert [str(each.gateway) for each in its.overlay.stale_peers] == ["172.18.0.6"]
    fp.calls.append(["the other NIC"])  # which nobody asks then


def test_tables_of_several_cables_are_read_at_once(fp: FakeProcess) -> None:
    listing = json.loads(
        (CAPTURES / "nft-1.0.6.json").read_text().replace("vxlan-tunnel", "cluster2-172-18-0-7")
    )
    fp.register(["nft", "-j", "list", "ruleset", "inet"], stdout=json.dumps(listing))
    tunnels = tuple(replace(each, overlay=None) for each in CABLES)
    name = "inet cablectl_cluster2-172-18-0-7"
    assert ipsec_state.guards_of(tunnels) == {name: nftables.parse(listing)}


def test_without_ip_there_is_no_way(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*_: str, **__: str) -> None:
        raise HostNotReadyError("ip is not installed")

    monkeypatch.setattr(probe, "run", missing)
    assert paths.ways(CABLES[0].local.address, [CABLES[0].remote_host]) == {}


def test_a_key_is_nowhere_shown(key: PskFile) -> None:
    found = keys.read(key)
    assert found.raw.decode() not in repr(found)
