"""What is checked in and derived is what tools/generate.py makes."""

import subprocess
from pathlib import Path

import pytest

from tests.support.places import ROOT, SHELLCHECK
from tools.generate import derived


@pytest.mark.parametrize(
    ("path", "text"), [pytest.param(*each, id=each[0].name) for each in derived().items()]
)
def test_checked_in_is_what_is_generated(path: Path, text: str) -> None:
    assert path.read_text() == text, "run `make docs`, and read the difference"


def test_nothing_is_left_of_what_is_made_no_more() -> None:
    made = set(derived())
    for folder, pattern in (("man", "*.[0-9]"), ("completions", "*"), ("tests/golden", "*")):
        assert set((ROOT / folder).glob(pattern)) <= made


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
