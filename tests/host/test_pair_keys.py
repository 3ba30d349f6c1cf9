"""A key for each pair of gateways: found, trusted and written; and no key is in any command."""

import json
import os
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.doctor.collect import bug_report
from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Credential, Facts
from cablectl.host import ipsec_state, keys, reading
from cablectl.libreswan import secrets_file
from cablectl.libreswan.authentication import authentication_of
from cablectl.model.cable import Cable
from cablectl.model.psk import PskDirectory, PskPair, pair_name
from cablectl.plan import connect_plan
from cablectl.render import plans
from tests.support.meshes import CABLES
from tests.support.plans import BLANK
from tests.support.untrusted import as_fifo, elsewhere, open_to_a_group, open_to_all

KEYS = {
    f"cluster1+cluster{number}": f"the key of cluster1 and cluster{number}, 40 characters"
    for number in (2, 3)
}


class Keys:
    """The keys of the first gateway of a mesh of three, and its secrets files."""

    def __init__(self, root: Path) -> None:
        self.directory, self.written = root / "keys", root / "ipsec.d"
        self.directory.mkdir(mode=0o700)
        self.written.mkdir(mode=0o755)
        for name, key in KEYS.items():
            (self.directory / name).touch(mode=0o600)
            (self.directory / name).write_text(f"{key}\n")
        psk = PskDirectory(str(self.directory))
        self.cables = tuple(replace(cable, ipsec=replace(cable.ipsec, psk=psk)) for cable in CABLES)

    def path(self, cable: Cable) -> Path:
        return self.directory / f"cluster1+{cable.remote.cluster}"

    def install(self) -> subprocess.CompletedProcess[str]:
        """Run the command that writes all secrets files."""
        return run(secrets_file.write_all(self.cables))

    @property
    def secrets(self) -> dict[str, bytes]:
        return {str(file): file.read_bytes() for file in self.written.iterdir()}

    @property
    def wanted(self) -> dict[str, bytes]:
        return {
            secrets_file.path(cable): secrets_file.content(
                cable, KEYS[f"cluster1+{cable.remote.cluster}"].encode()
            )
            for cable in self.cables
        }


def run(argv: tuple[str, ...]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(argv, capture_output=True, text=True, check=False, timeout=20)


@pytest.fixture
def these(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Keys:
    monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path / "ipsec.d"))
    return Keys(tmp_path)


def test_the_name_of_a_pair_is_that_of_no_other_pair() -> None:
    assert pair_name("west", "east") == pair_name("east", "west") == "east+west"
    assert pair_name("a", "b--c") != pair_name("a--b", "c")


def test_one_shell_writes_each_its_own_key(these: Keys) -> None:
    argv = authentication_of(these.cables[0].ipsec).install_all(these.cables)
    before = os.umask(0)
    try:
        done = run(argv)
    finally:
        os.umask(before)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert these.secrets == these.wanted
    assert {stat.S_IMODE(file.stat().st_mode) for file in these.written.iterdir()} == {0o600}
    assert [keys.find(cable).held for cable in these.cables] == [Credential.SAME] * 2


def test_one_by_one_is_the_same(these: Keys) -> None:
    for cable in these.cables:
        assert run(secrets_file.write(cable)).returncode == 0
    assert these.secrets == these.wanted


def test_both_ends_take_the_same_file(these: Keys) -> None:
    cable = these.cables[0]
    mirrored = replace(cable, local=cable.remote, remote=cable.local)
    assert mirrored.psk == cable.psk == PskPair(str(these.directory), "cluster1+cluster2")


def without_key(path: Path) -> None:
    path.write_text("\r\n")


@pytest.mark.parametrize("plant", [elsewhere, open_to_all, open_to_a_group, as_fifo, without_key])
def test_a_key_that_is_not_trusted_is_that_of_one_cable(
    these: Keys, plant: Callable[[Path], None]
) -> None:
    good, bad = these.cables
    plant(these.path(bad))
    assert keys.find(good).problems == ()
    ((message, _),) = keys.find(bad).problems
    assert str(these.path(bad)) in message
    done = these.install()
    assert done.returncode == 3
    assert run(secrets_file.write(bad)).returncode == 3
    assert run(secrets_file.write(good)).returncode == 0
    assert these.secrets.keys() == {secrets_file.path(good)}
    assert not any(key in done.stdout + done.stderr for key in KEYS.values())


@pytest.mark.parametrize("plant", [elsewhere, open_to_all, open_to_a_group])
def test_a_directory_that_is_not_trusted(these: Keys, plant: Callable[[Path], None]) -> None:
    plant(these.directory)
    for cable in these.cables:
        assert any(str(these.directory) in told for told, _ in keys.find(cable).problems)
    assert these.install().returncode == 3
    assert these.secrets == {}


def facts_of(these: Keys, monkeypatch: pytest.MonkeyPatch) -> list[Facts]:
    monkeypatch.setattr(ipsec_state, "guards_of", lambda _: {})
    return [*reading._with_key_and_guard(these.cables, [BLANK] * 2)]


def test_a_missing_key_refuses_its_cable_alone(
    these: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    these.path(these.cables[0]).unlink()
    plan = connect_plan.plan(these.cables, tuple(facts_of(these, monkeypatch)), limit=1)
    assert [cable.remote.cluster for cable in plan.cables] == ["cluster3"]
    (refused,) = plan.refused.values()
    assert isinstance(refused, HostNotReadyError)
    assert refused.message == (
        f"ipsec.psk.directory: {these.directory}/cluster1+cluster2: No such file or directory"
    )
    assert "cablectl secret new --pairs FILE --out DIR; then copy DIR/cluster1+cluster2 to" in (
        refused.hint
    )
    done = these.install()
    assert done.returncode != 0
    assert "cluster1+cluster2" in done.stderr


def test_weak_keys_are_told_apart(these: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    for cable in these.cables:
        these.path(cable).write_text("short")
    warnings = {line for facts in facts_of(these, monkeypatch) for line in facts.warnings}
    assert len(warnings) == 2
    assert not any("short" in line for line in warnings)


def test_no_key_is_in_any_command(these: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in the script, nor in the journal, which has each step's commands."""
    plan = connect_plan.plan(these.cables, tuple(facts_of(these, monkeypatch)), limit=1)
    commands = [
        *(word for step in plan.steps for argv in (step.argv, *step.undo) for word in argv),
        *secrets_file.write_all(these.cables),
        plans.as_script(plan),
    ]
    assert any(str(these.directory) in word for word in commands)
    for key in KEYS.values():
        for spelling in (key, key.encode().hex(), json.dumps(key)):
            assert not any(spelling in word for word in commands)


def test_a_bug_report_masks_the_keys_of_all_pairs(these: Keys) -> None:
    text = " ".join((*KEYS.values(), *(key.encode().hex() for key in KEYS.values())))
    masked = bug_report.without_keys({"any.txt": text}, these.cables[0])
    assert masked == {"any.txt": "*** *** *** ***"}
