"""LAB_RELEASES, which adds Libreswans to those of the lab."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.lab import releases
from tests.lab.releases import Installation
from tests.lab.rooms import LabError
from tests.support.places import ROOT


def make(folder: Path, *files: str) -> Path:
    """Make a directory with empty files."""
    folder.mkdir()
    for file in files:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).touch()
    return folder


def test_without_a_value_the_lab_has_only_its_own() -> None:
    assert releases.parse("") == {}


def test_what_was_installed_below_a_directory_is_a_layer(tmp_path: Path) -> None:
    local = make(tmp_path / "local", "usr/local/sbin/ipsec", "usr/sbin/ipsec")
    system = make(tmp_path / "system", "usr/sbin/ipsec")
    found = releases.parse(f"a={local},b={system}")
    assert found == {
        "a": Installation(layer=str(local), prefix="/usr/local"),
        "b": Installation(layer=str(system), prefix="/usr"),
    }
    assert list(found) == ["a", "b"]


def test_a_directory_with_a_shell_is_a_root(tmp_path: Path) -> None:
    """Its links are resolved in the root itself: here /bin leads nowhere on this machine."""
    root = make(tmp_path / "root", "usr/sbin/ipsec", "opt/cablectl/cablectl", "usr/bin/dash")
    (root / "bin").symlink_to("usr/bin")
    (root / "bin" / "sh").symlink_to("/nowhere/dash")
    assert releases.parse(f"copy={root}") == {"copy": Installation(str(root), prefix="/usr")}


def test_a_relative_directory_is_relative_to_the_checkout(tmp_path: Path) -> None:
    make(tmp_path / "made", "usr/sbin/ipsec")
    (tmp_path / "link").symlink_to("made")
    for folder in ("made", "./made", "link"):
        found = releases.parse(f"a={folder}", tmp_path)
        assert found["a"].layer == str(tmp_path / "made")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("there", "'there' is not NAME=DIR"),
        ("=there", "'=there' is not NAME=DIR"),
        ("a=", "'a=' is not NAME=DIR"),
        ("a=there,", "'' is not NAME=DIR"),
        ("5.2=there", "the lab has its own '5.2'; choose another name"),
        ("strongSwan=there", "the lab has its own 'strongSwan'; choose another name"),
        ("a=there,a=there", "the name 'a' is given twice"),
        ("a=nowhere", "a: '{}/nowhere' is not a directory"),
        ("a=there/usr/sbin/ipsec", "a: '{}/there/usr/sbin/ipsec' is not a directory"),
        ("a=empty", "a: '{}/empty' has neither usr/local/sbin/ipsec nor usr/sbin/ipsec"),
        (
            "a=there,b=root",
            "b: '{}/root' is a root without /opt/cablectl; begin with a copy of .lab/trixie",
        ),
    ],
)
def test_a_wrong_value_is_one_line(text: str, problem: str, tmp_path: Path) -> None:
    make(tmp_path / "empty")
    make(tmp_path / "there", "usr/sbin/ipsec")
    make(tmp_path / "root", "usr/sbin/ipsec", "bin/sh")
    expected = re.escape(f"LAB_RELEASES: {problem.format(tmp_path)}")
    with pytest.raises(LabError, match=f"^{expected}$"):
        releases.parse(text, tmp_path)


def test_a_layer_cannot_lie_over_its_own_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prefix = str(tmp_path).removeprefix("/")
    monkeypatch.setattr(releases, "PREFIXES", (prefix,))
    there = make(tmp_path / "there", f"{prefix}/sbin/ipsec")
    with pytest.raises(LabError, match=f"a: '{there}' is below {tmp_path}; move it"):
        releases.parse(f"a={there}")


def test_a_wrong_value_fails_the_run() -> None:
    argv = (
        sys.executable,
        "-m",
        "pytest",
        "--collect-only",
        "-m",
        "lab",
        "tests/lab/test_whack.py",
    )
    wrong = {**os.environ, releases.VARIABLE: "wrong"}
    done = subprocess.run(argv, cwd=ROOT, env=wrong, capture_output=True, text=True, check=False)
    assert done.returncode == pytest.ExitCode.USAGE_ERROR
    assert done.stderr.strip() == "ERROR: LAB_RELEASES: 'wrong' is not NAME=DIR"


def test_the_booted_kernel_gets_the_variable() -> None:
    boot = (ROOT / "tests" / "lab" / "boot").read_text()
    carried = re.search(r"^carried=\((.*)\)$", boot, re.MULTILINE)
    assert carried
    assert releases.VARIABLE in carried[1].split()
