"""`cablectl -v`: each command that runs is shown with its duration and how it ended."""

import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cablectl.errors import CablectlError
from cablectl.host import command_log, probe
from cablectl.run.command import Shell, batch, run
from tests.support.places import EXAMPLES

PROGRAM = str(Path(sys.executable).parent / "cablectl")
DRY = ("plan", str(EXAMPLES / "quickstart.yaml"), "--dry-run", "--local", "cluster1")
LIMIT = 20.0  # seconds, which no command here needs


def by_probe(*argv: str) -> None:
    probe.run(*argv)


def by_sh(*argv: str) -> None:
    run(argv, LIMIT, "test")


def by_shell(*argv: str) -> None:
    lock = os.open(os.devnull, os.O_RDONLY)
    shell = Shell([lock])
    try:
        shell.run(argv, LIMIT, "test")
    finally:
        shell.close()
        os.close(lock)


WAYS = pytest.mark.parametrize("way", [by_probe, by_sh, by_shell])
Way = Callable[..., None]


@pytest.fixture
def shown() -> Iterator[None]:
    command_log.show(shown=True)
    yield
    command_log.show(shown=False)


@pytest.fixture(autouse=True)
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put programs on PATH that succeed, fail, read their input, or don't end."""
    texts = {
        "succeeds": "echo output",
        "fails": "exit 3",
        "reads": "cat >/dev/null",
        "hangs": "sleep 600",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def lines(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Return what was shown, without the durations."""
    output, errors = capsys.readouterr()
    assert output == ""
    return [re.sub(r"^cablectl: run \d+ ms ", "", line) for line in errors.splitlines()]


@pytest.mark.usefixtures("shown")
class TestShown:
    @WAYS
    def test_a_command_with_its_words(self, way: Way, capsys: pytest.CaptureFixture[str]) -> None:
        way("succeeds", "a b", "c")
        assert lines(capsys) == ["exit 0: succeeds 'a b' c"]

    @WAYS
    def test_one_that_fails(self, way: Way, capsys: pytest.CaptureFixture[str]) -> None:
        try:
            way("fails")
        except CablectlError:
            assert way is not by_probe
        assert lines(capsys) == ["exit 3: fails"]

    @WAYS
    def test_one_that_is_not_installed(self, way: Way, capsys: pytest.CaptureFixture[str]) -> None:
        with pytest.raises(CablectlError):
            way("no-such-command")
        assert lines(capsys) == ["not installed: no-such-command"]

    @pytest.mark.parametrize("way", [by_probe, by_sh, by_shell])
    def test_one_that_does_not_end(
        self, way: Way, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(probe, "LIMIT", 0.1)
        monkeypatch.setattr(sys.modules[__name__], "LIMIT", 0.1)
        with pytest.raises(CablectlError):
            way("hangs")
        assert lines(capsys) == ["time limit: hangs"]

    def test_what_a_command_reads(self, capsys: pytest.CaptureFixture[str]) -> None:
        probe.run("reads", given="one\ntwo\n")
        batch([("reads", "link", "add"), ("reads", "link", "set")], LIMIT, "test")
        assert lines(capsys) == [
            "exit 0: reads",
            "cablectl:   < one",
            "cablectl:   < two",
            "exit 0: reads -force -batch -",
            "cablectl:   < link add",
            "cablectl:   < link set",
        ]

    def test_no_word_moves_the_cursor(self, capsys: pytest.CaptureFixture[str]) -> None:
        probe.run("succeeds", "a\nb\x1b[2J")
        assert lines(capsys) == [r"exit 0: succeeds 'a\nb\x1b[2J'"]


@WAYS
def test_nothing_is_shown_without_it(way: Way, capsys: pytest.CaptureFixture[str]) -> None:
    way("succeeds")
    assert lines(capsys) == []


@pytest.mark.parametrize(
    ("options", "variable", "shown"),
    [
        (("-v",), None, True),
        (("--verbose",), None, True),
        ((), "commands", True),
        ((), "", False),
        ((), None, False),
    ],
)
def test_the_option_and_the_variable(
    options: tuple[str, ...], variable: str | None, shown: bool
) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "CABLECTL_LOG"}
    if variable is not None:
        environment["CABLECTL_LOG"] = variable
    argv = [PROGRAM, *options, *DRY]
    done = subprocess.run(argv, capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.startswith("#!/bin/sh\n")
    found = re.findall(
        r"^cablectl: run \d+ ms exit 99: ipsec --version$", done.stderr, re.MULTILINE
    )
    assert len(found) == shown
    assert bool(done.stderr) is shown
