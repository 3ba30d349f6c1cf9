"""What is checked in and derived is what tools/generate.py makes."""

import subprocess
from pathlib import Path

import pytest

from tests.support.places import ROOT, SHELLCHECK
from tools.generate import derived


@pytest.fixture(scope="module")
def made() -> dict[Path, str]:
    found = derived()
    folders = {"completions", "docs", "golden", "grafana", "man", "prometheus"}
    assert {path.parent.name for path in found} == folders
    return found


def test_checked_in_is_what_is_generated(made: dict[Path, str]) -> None:
    """Only the names are shown; what differs is for git to show."""
    differ = [
        str(path.relative_to(ROOT))
        for path, text in made.items()
        if not path.exists() or path.read_text() != text
    ]
    assert differ == [], "run `make docs`, and read the difference"


def test_nothing_is_left_of_what_is_made_no_more(made: dict[Path, str]) -> None:
    for folder, pattern in (("man", "*.[0-9]"), ("completions", "*"), ("tests/golden", "*")):
        found = set((ROOT / folder).glob(pattern))
        assert found
        assert found <= made.keys()


def test_shellcheck_finds_nothing_in_the_completion_but_what_is_typers() -> None:
    # 2086: COMP_CWORD is a number and $1 the command's name. 2207: IFS is the line's end; a name
    # with * in it would be a pattern, and no cluster, hostname, address or option has one.
    subprocess.run(
        [
            *(SHELLCHECK, "--shell", "bash"),
            *("--exclude", "SC2086,SC2207", ROOT / "completions" / "cablectl.bash"),
        ],
        check=True,
    )
