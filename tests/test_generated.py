"""What is checked in and derived is what tools/generate.py makes."""

import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tools.generate import derived


@pytest.mark.parametrize(
    ("path", "text"), [pytest.param(*each, id=each[0].name) for each in derived().items()]
)
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


def test_the_completion_is_good_bash() -> None:
    subprocess.run(["bash", "-n", str(ROOT / "completions" / "cablectl.bash")], check=True)
