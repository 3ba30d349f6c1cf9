"""What can't be written, and what no terminal should obey."""

import io
import os
import subprocess
from pathlib import Path

import pytest

from cablectl.render.text import console
from tests.support.places import EXAMPLES, PROGRAM

QUICKSTART = str(EXAMPLES / "quickstart.yaml")
PLAN = ("plan", QUICKSTART, "--dry-run", "--local", "cluster1")
COMMANDS = [
    ("--help",),
    ("--version",),
    ("schema",),
    ("connect", "--help"),
    ("secret", "--help"),
    ("ca", "--help"),
    PLAN,
    *((*PLAN, "--format", kind) for kind in ("json", "table", "diff")),
    ("connect", *PLAN[1:]),
    ("teardown", *PLAN[1:]),
    ("init", "--endpoint", "a=172.18.0.8", "--endpoint", "b=172.18.0.7"),
    ("import", str(EXAMPLES / "submariner" / "endpoints.yaml")),
]
COMPLETION = {"_CABLECTL_COMPLETE": "complete_bash", "COMP_WORDS": "cablectl ", "COMP_CWORD": "1"}
Done = subprocess.CompletedProcess[str]


def shell(script: str, *args: str, **environment: str) -> Done:
    """Run a script whose "$@" is the program with arguments."""
    return subprocess.run(
        ["bash", "-c", script, "bash", PROGRAM, *args],
        capture_output=True,
        text=True,
        check=False,
        errors="surrogateescape",
        env={**os.environ, **environment},
    )


def last_line(done: Done) -> str:
    return done.stderr.splitlines()[-1]


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_full_disk(args: tuple[str, ...]) -> None:
    done = shell('"$@" >/dev/full', *args)
    assert done.returncode == 1
    assert last_line(done) == "cablectl: cannot write standard output: No space left on device"
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", COMMANDS, ids=" ".join)
def test_a_closed_output(args: tuple[str, ...]) -> None:
    done = shell('"$@" >&-', *args)
    assert done.returncode == 1
    assert last_line(done) == "cablectl: cannot write standard output: Bad file descriptor"
    assert "Traceback" not in done.stderr


def test_completion_on_a_full_disk() -> None:
    done = shell('"$@" >/dev/full', **COMPLETION)
    assert done.returncode == 1
    assert done.stderr == "cablectl: cannot write standard output: No space left on device\n"


@pytest.mark.parametrize("args", [PLAN, ("schema",), ("--help",)], ids=" ".join)
def test_a_reader_that_leaves(args: tuple[str, ...], tmp_path: Path) -> None:
    """The reader has left before the first byte."""
    os.mkfifo(tmp_path / "left")
    script = '{ read -r _ <"$LEFT"; "$@"; echo $? >&2; } | { exec <&-; echo >"$LEFT"; }'
    done = shell(script, *args, LEFT=str(tmp_path / "left"))
    assert done.stderr.splitlines()[-1] == "1"
    assert "Traceback" not in done.stderr
    assert "cannot write" not in done.stderr


@pytest.mark.parametrize("output", [">/dev/full", ">&-"])
def test_an_error_goes_before_that_of_its_json(output: str) -> None:
    done = shell(f'"$@" {output}', "plan", "/nonexistent", "--format", "json")
    assert (done.returncode, done.stderr) == (
        2,
        "cablectl: /nonexistent: No such file or directory\n",
    )


@pytest.mark.parametrize("errors", ["2>/dev/full", "2>&-"])
def test_errors_that_nobody_can_read(errors: str) -> None:
    done = shell(f'"$@" {errors}', "plan", "/nonexistent")
    assert (done.returncode, done.stdout, done.stderr) == (2, "", "")


def test_no_file_gets_the_number_of_a_closed_stream(tmp_path: Path) -> None:
    """Or a note would be in the file."""
    done = shell('"$@" <&- >&- 2>&-', "secret", "new", str(tmp_path / "psk"))
    assert done.returncode == 1
    assert len((tmp_path / "psk").read_text()) == 45


ODD = "a\x1b[31m\r\n\t\x9b\u202e\udcffb"
SHOWN = "a\\x1b[31m\\r\\n"


@pytest.mark.parametrize(
    "args", [("plan", ODD), ("import", ODD), ("plan", ODD, "--format", "json")]
)
def test_a_name_that_no_terminal_should_obey(args: tuple[str, ...]) -> None:
    done = shell('"$@"', *args)
    assert done.returncode == 2
    assert done.stderr.startswith(f"cablectl: {SHOWN}")
    assert all(line.isprintable() for line in (done.stdout + done.stderr).split("\n"))


def test_such_names_in_notes_warnings_hints_and_results(tmp_path: Path) -> None:
    odd = tmp_path / ODD
    odd.mkdir(mode=0o700)
    file = odd / "cable.yaml"
    gateways = ("--endpoint", "a=172.18.0.8", "--endpoint", "b=172.18.0.7")
    made = shell('"$@"', "init", str(file), *gateways)
    again = shell('"$@"', "init", str(file), *gateways)
    file.chmod(0o666)
    warned = shell('"$@"', "plan", str(file), "--dry-run", "--local", "a")
    refused = shell('"$@"', "connect", str(file), "--local", "a")
    key = shell('"$@"', "secret", "new", str(odd / "psk"))
    codes = [done.returncode for done in (made, again, warned, refused, key)]
    assert codes == [0, 2, 0, 3, 0]
    for done in (made, again, warned, refused, key):
        text = done.stderr or done.stdout
        assert SHOWN in text
        assert all(line.isprintable() for line in text.split("\n"))


@pytest.mark.parametrize("columns", ["0", "00", "1", "-1", "x", "99999999", ""])
def test_any_number_of_columns(columns: str) -> None:
    done = shell('"$@"', *PLAN, "--format", "table", COLUMNS=columns)
    assert (done.returncode, done.stderr) == (0, "")
    assert "guard" in done.stdout


@pytest.mark.parametrize(
    ("columns", "width"), [("0", 80), ("00", 80), ("5", 20), ("90", 90), ("99999999", 1000)]
)
def test_the_width_of_a_table(columns: str, width: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    assert console(io.StringIO()).width == width
