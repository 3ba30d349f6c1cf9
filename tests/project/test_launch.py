"""What starts the lab: refusals before anything is built, the shared cache, and .venv's stamps."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
LAB = ROOT / "tests" / "lab"
TOOLS = (
    *("awk", "cat", "cmp", "date", "dirname", "find", "flock", "grep", "head", "ln", "mkdir", "mv"),
    *("pwd", "realpath", "rm", "sed", "sha256sum", "sort", "tail", "bash", "sync"),
)
# A machine that lacks nothing but ESP. Each command is a line of shell.
MACHINE = {
    "id": '[ "$1" = -u ] && echo 0 || echo root',
    "apt-cache": "true",
    "apt-get": "exit 1",
    "python3": "echo 3.11.2",
    "df": "echo Avail; echo 99999",
    "unshare": 'case "$*" in *" true") ;; *) exit 1 ;; esac',
    "modprobe": "exit 1",
    "ip": "exit 1",
    "uname": "echo x86_64",
}


def commands(folder: Path, scripts: dict[str, str]) -> dict[str, str]:
    """Return an environment in which only these commands are found."""
    folder.mkdir()
    for name in TOOLS:
        found = shutil.which(name)
        assert found, name
        (folder / name).symlink_to(found)
    for name, script in scripts.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(f"#!/bin/bash\n{script}\n")
        (folder / name).chmod(0o755)
    return {"PATH": str(folder), "LAB_CACHE": str(folder.parent / "cache")}


def bash(script: str, *args: object, **options: object) -> subprocess.CompletedProcess[str]:
    argv = ["bash", "-euo", "pipefail", "-c", script, "bash", *map(str, args)]
    return subprocess.run(argv, capture_output=True, text=True, check=False, **options)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("missing", "changed", "what", "told"),
    [
        ("", {}, "demo", None),
        ("", {}, "lab", None),
        ("", {"uname": "echo aarch64"}, "fast", None),
        ("apt-get", {}, "fast", "this system has no apt-get"),
        ("", {"id": "echo 1000"}, "fast", "run it as root, or install sudo"),
        ("", {"id": "echo 1000", "sudo": "exit 1"}, "demo", "sudo doesn't let 1000 be root"),
        ("", {"python3": "echo 3.9.2"}, "fast", "python3 is 3.9.2 here"),
        (
            "python3",
            {"apt-cache": "echo '  Candidate: 3.9.2-3'"},
            "fast",
            "python3 is 3.9.2-3 here",
        ),
        ("python3", {"apt-cache": "echo '  Candidate: (none)'"}, "fast", None),
        ("", {"df": "echo Avail; echo 700"}, "fast", None),
        (
            "",
            {"df": "echo Avail; echo 700"},
            "demo",
            "700 MiB of free disk, and make demo needs 1000",
        ),
        (
            "",
            {"df": "echo Avail; echo 3000"},
            "lab",
            "3000 MiB of free disk, and make lab needs 4000",
        ),
        ("", {"unshare": "exit 1"}, "demo", "root can't make network namespaces here"),
        ("", {"uname": "echo aarch64"}, "demo", "on x86_64 only, not on aarch64"),
        ("", {"uname": "echo aarch64", "unshare": "exit 0"}, "demo", None),
        ("", {"awk": "echo 900"}, "demo", "needs 1600 MiB of free memory, and 900 are free"),
    ],
)
def test_what_a_machine_lacks_is_told_in_one_line(
    tmp_path: Path, missing: str, changed: dict[str, str], what: str, told: str | None
) -> None:
    scripts = {name: text for name, text in {**MACHINE, **changed}.items() if name != missing}
    env = commands(tmp_path / "bin", scripts)
    # The script adds the directories of root's commands; nothing is to be found there.
    check = (LAB / "check").read_text().replace(":/usr/sbin:/sbin", "")
    (tmp_path / "tests" / "lab").mkdir(parents=True)
    (tmp_path / "tests" / "lab" / "check").write_text(check)
    shutil.copy(LAB / "esp", tmp_path / "tests" / "lab")
    done = bash('bash "$@"', tmp_path / "tests" / "lab" / "check", what, env=env)
    if told is None:
        assert (done.returncode, done.stderr) == (0, "")
    else:
        assert done.returncode == 3
        assert told in done.stderr
        assert done.stderr.count("\n") == 1


def test_boot_refuses_without_a_kernel_that_has_esp(tmp_path: Path) -> None:
    lab = tmp_path / "a folder" / "tests" / "lab"
    lab.mkdir(parents=True)
    shutil.copy(LAB / "boot", lab)
    (lab / "esp").write_text("#!/bin/sh\nexit 1\n")
    (lab / "esp").chmod(0o755)
    env = commands(tmp_path / "bin", MACHINE)
    done = subprocess.run([lab / "boot", "true"], capture_output=True, text=True, env=env)
    assert done.returncode == 3
    assert done.stderr.startswith("boot: this kernel has no ESP: run `make kernel`")


CACHED = '. "$1"/cache; work() { echo x >>"$OUT/runs"; eval "$WORK"; }; cached thing work recipe'


class TestCache:
    @pytest.fixture
    def env(self, tmp_path: Path) -> dict[str, str]:
        (tmp_path / "recipe").write_text("one")
        cache = str(tmp_path / "the cache")
        return {**os.environ, "LAB_CACHE": cache, "OUT": str(tmp_path), "WORK": ":"}

    def test_what_failed_is_never_taken_for_whole(
        self, tmp_path: Path, env: dict[str, str]
    ) -> None:
        half = {**env, "WORK": 'touch "$1/half"; echo the reason; false; touch "$1/more"'}
        done = bash(CACHED, LAB, cwd=tmp_path, env=half)
        assert done.returncode == 1
        assert done.stderr == "the reason\n"
        assert not (tmp_path / ".lab" / "thing").exists()

        assert bash(CACHED, LAB, cwd=tmp_path, env=env).returncode == 0
        assert list((tmp_path / ".lab" / "thing").iterdir()) == []

    def test_it_is_made_once_for_each_recipe(self, tmp_path: Path, env: dict[str, str]) -> None:
        for recipe in ("one", "one", "another", "one"):
            (tmp_path / "recipe").write_text(recipe)
            bash(CACHED, LAB, cwd=tmp_path, env=env)
        assert (tmp_path / "runs").read_text() == "x\n" * 2

    def test_two_at_once_make_it_once(self, tmp_path: Path, env: dict[str, str]) -> None:
        # The first one goes on when the second one waits.
        go = tmp_path / "go"
        argv = ["bash", "-euo", "pipefail", "-c", CACHED, "bash", str(LAB)]
        pipe = subprocess.PIPE
        slow = {**env, "WORK": 'until [ -e "$OUT/go" ]; do sleep 0.02; done'}
        with subprocess.Popen(argv, cwd=tmp_path, env=slow, stdout=pipe, text=True) as first:
            assert first.stdout
            try:
                assert "making" in first.stdout.readline()
                with subprocess.Popen(argv, cwd=tmp_path, env=env, stdout=pipe, text=True) as other:
                    assert other.stdout
                    waits = other.stdout.readline()
                    go.touch()
                    assert other.wait(20) == 0
                    assert "waiting for another run" in waits
            finally:
                go.touch()
        assert (tmp_path / "runs").read_text() == "x\n"


# Stands for Python: makes a .venv/bin/python that writes down how it is called.
PYTHON = """
[ "$*" = "-m venv .venv" ]
mkdir -p .venv/bin
printf '#!/bin/bash\\necho "$*" >>"$OUT"\\n' >.venv/bin/python
chmod +x .venv/bin/python
"""


class TestVenv:
    @pytest.fixture
    def checkout(self, tmp_path: Path) -> Path:
        checkout = tmp_path / "a folder" / "checkout"
        (checkout / "tools").mkdir(parents=True)
        shutil.copy(ROOT / "tools" / "venv", checkout / "tools")
        (checkout / "pyproject.toml").write_text("one")
        self.calls = tmp_path / "calls"
        self.env = {**commands(tmp_path / "bin", {"python3": PYTHON}), "OUT": str(self.calls)}
        (tmp_path / "bin" / "chmod").symlink_to("/bin/chmod")
        return checkout

    def installed(self, checkout: Path, what: str) -> list[str]:
        """Return what pip installs in a run."""
        self.calls.write_text("")
        subprocess.run([checkout / "tools" / "venv", what], env=self.env, check=True)
        return [line.split()[-1] for line in self.calls.read_text().splitlines() if "pip" in line]

    def test_each_part_is_installed_once(self, checkout: Path) -> None:
        assert self.installed(checkout, "run") == ["."]
        assert self.installed(checkout, "run") == []
        assert self.installed(checkout, "dev") == [".[dev]"]
        assert self.installed(checkout, "dev") == self.installed(checkout, "run") == []

    def test_dev_includes_run(self, checkout: Path) -> None:
        assert self.installed(checkout, "dev") == [".[dev]"]
        assert self.installed(checkout, "run") == []

    def test_a_new_pyproject_installs_again(self, checkout: Path) -> None:
        self.installed(checkout, "dev")
        (checkout / "pyproject.toml").write_text("another")
        assert self.installed(checkout, "run") == ["."]
        assert self.installed(checkout, "dev") == [".[dev]"]

    @pytest.mark.parametrize("change", [shutil.move, shutil.copytree])
    def test_a_moved_or_copied_checkout_gets_a_new_one(
        self, checkout: Path, tmp_path: Path, change: object
    ) -> None:
        assert callable(change)
        self.installed(checkout, "dev")
        (checkout / ".venv" / "old").touch()
        other = tmp_path / "other"
        change(checkout, other)
        assert self.installed(other, "run") == ["."]
        assert not (other / ".venv" / "old").exists()
