"""What is checked in and derived is what tools/generate.py makes."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.generate import derived


@pytest.mark.parametrize(("path", "text"), derived().items(), ids=lambda each: str(each)[-30:])
def test_checked_in_is_what_is_generated(path: Path, text: str) -> None:
    assert path.read_text() == text


def test_man_formats_the_page_without_a_warning() -> None:
    done = subprocess.run(
        ["man", "--warnings", "-l", str(ROOT / "man" / "cablectl.8")],
        capture_output=True,
        text=True,
        check=True,
        env={"MANWIDTH": "80", "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
    )
    assert done.stderr == ""
    assert "EXIT STATUS" in done.stdout


@pytest.mark.parametrize("name", ["cablectl.bash"])
def test_completions_are_good_shell(name: str) -> None:
    path = ROOT / "completions" / name
    subprocess.run(["bash", "-n", str(path)], check=True)
