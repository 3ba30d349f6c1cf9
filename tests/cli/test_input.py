"""What is no file of ours, and values that would be something else: one line, and exit code 2."""

import os
import re
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.support.places import EXAMPLES, PROGRAM
from tests.support.program import run

COMMANDS = (
    ("plan", "--dry-run", "--local", "cluster1"),
    ("connect", "--local", "cluster1"),
    ("teardown", "--local", "cluster1"),
    ("import",),
)
QUICKSTART = (EXAMPLES / "quickstart.yaml").read_text()
BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{name}: &{name} [{', '.join([f'*{before}'] * 9)}]\n"
    for before, name in zip("abcdefgh", "bcdefghi", strict=True)
)


def huge(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(100 << 20)


def written(text: str) -> Callable[[Path], object]:
    return lambda path: path.write_text(text)


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (written(BOMB), "2: an alias is not allowed; write the value out"),
        (written(f"apiVersion: v1\n{BOMB}"), "3: an alias is not allowed; write the value out"),
        (written("a: " + "[" * 25), "1: nested too deep; allowed: 24 levels"),
        (written("a: " + "[" * 10**5), "nest"),
        (lambda path: path.write_bytes(b"\x7fELF\x02\x01\x01\x00\xff"), "not text in UTF-8"),
        (written("version: 1\0"), "this is not YAML: unacceptable character #x0000"),
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),
        (huge, "larger than 1048576 bytes"),
        (lambda path: path.symlink_to("/dev/zero"), "not a regular file"),
        (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
        (lambda path: None, "No such file or directory"),
    ],
    ids=[
        *(
            "bomb",
            "bomb of Submariner's",
            "nested",
            "deep",
            "binary",
            "NUL",
            "directory",
            "FIFO",
            "100 MB",
        ),
        *("device", "link to itself", "missing"),
    ],
)
def test_what_is_no_file_of_ours(
    tmp_path: Path, plant: Callable[[Path], object], message: str
) -> None:
    path = tmp_path / "cable.yaml"
    plant(path)
    with ThreadPoolExecutor() as pool:
        runs = list(pool.map(lambda command: run(*command, str(path)), COMMANDS))
    for done in runs:
        assert (done.returncode, done.stdout) == (2, "")
        first, *others = done.stderr.splitlines()
        assert first.startswith(f"cablectl: {path}:")
        assert message in first
        assert all(line.startswith("  try: ") for line in others)


@pytest.mark.parametrize("given", ["closed", "a directory", "empty"])
def test_standard_input_that_gives_nothing(given: str) -> None:
    redirect = {"closed": "<&-", "a directory": "</", "empty": "</dev/null"}[given]
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" plan - --dry-run {redirect}', PROGRAM],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "Traceback" not in done.stderr


def test_a_number_that_takes_minutes_to_read(tmp_path: Path) -> None:
    """YAML 1.1 has numbers to the base of 60, and PyYAML's time grows with the square."""
    path = tmp_path / "cable.yaml"
    path.write_text(QUICKSTART.replace("version: 1", "version: 1" + ":1" * 400_000))
    done = run("plan", str(path), "--dry-run")
    assert done.returncode == 2
    assert done.stderr.startswith(f"cablectl: {path}:3: version: '1:1:1:1:")


def test_more_problems_than_anybody_reads(tmp_path: Path) -> None:
    path = tmp_path / "cable.yaml"
    path.write_text("".join(f"a{i}: 1\n" for i in range(10_000)))
    lines = run("plan", str(path), "--dry-run").stderr.splitlines()
    assert len(lines) == 101
    assert re.fullmatch(r"  and at least \d+ more", lines[-1])


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("plan", "--local", "--help"),
        ("plan", "--local", "cluster1\n--help"),
        ("plan", "--local", "\x1b[31mcluster1"),
        ("plan", "--libreswan", "--help"),
        ("plan", "--libreswan", "5"),
        ("plan", "--libreswan", "99999999999.1"),
        ("connect", "--local", "$(id)"),
        ("connect", "--timeout", "nan"),
        ("connect", "--timeout", "inf"),
        ("connect", "--timeout", "-1"),
        ("connect", "--timeout", "1e9"),
        ("connect", "--timeout", "1000000"),
        ("teardown", "--local", "-x"),
    ],
)
def test_values_of_options(command: str, option: str, value: str) -> None:
    done = run(command, str(EXAMPLES / "quickstart.yaml"), "--dry-run", option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr
    assert done.stderr.replace("\n", "").isprintable()
    if "Usage: " not in done.stderr:
        first, *others = done.stderr.splitlines()
        assert repr(value) in first
        assert all(line.startswith("  try: ") for line in others)


@pytest.mark.parametrize(
    ("command", "option", "value", "message"),
    [
        ("connect", "--timeout", "abc", "'abc' is not a whole number of seconds from 1 to 86400"),
        ("connect", "--timeout", "0", "'0' is not a whole number of seconds from 1 to 86400"),
        ("connect", "--timeout", "86401", "'86401' is not a whole number of seconds from 1"),
        ("connect", "--timeout", "1.5", "'1.5' is not a whole number of seconds from 1 to 86400"),
        ("teardown", "--timeout", "0.5", "'0.5' is not a number of seconds, at least 1"),
        ("teardown", "--timeout", "nan", "'nan' is not a number of seconds, at least 1"),
        ("verify", "--count", "1001", "'1001' is not a whole number from 1 to 1000"),
    ],
)
def test_numbers(command: str, option: str, value: str, message: str) -> None:
    done = run(command, "no-such-file", option, value)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"Invalid value for '{option}': {message}" in done.stderr


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        *(("connect", "--timeout", "1"), ("connect", "--timeout", "86400")),
        *(("teardown", "--timeout", "1.5"), ("verify", "--count", "1000")),
    ],
)
def test_numbers_that_are_allowed(command: str, option: str, value: str) -> None:
    done = run(command, "no-such-file", option, value)
    assert done.stderr == "cablectl: no-such-file: No such file or directory\n"


class TestImport:
    FILES = tuple(
        str(EXAMPLES / "submariner" / f"{name}.yaml") for name in ("submariner", "endpoints")
    )

    def test_where_the_key_goes_is_a_path_even_with_a_hyphen(self, tmp_path: Path) -> None:
        done = subprocess.run(
            [PROGRAM, "import", *self.FILES, "--psk-file", "-n"],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )
        assert done.returncode == 0
        assert f"file: {tmp_path}/-n" in done.stdout
        assert (tmp_path / "-n").stat().st_mode & 0o777 == 0o600

    def test_where_the_key_goes_is_one_line(self, tmp_path: Path) -> None:
        done = run("import", *self.FILES, "--psk-file", f"{tmp_path}/a\nb")
        assert (done.returncode, done.stdout) == (2, "")
        assert "write file: /PATH" in done.stderr
        assert list(tmp_path.iterdir()) == []

    def test_a_files_name_stays_in_its_comment(self, tmp_path: Path) -> None:
        names = [tmp_path / "a\nmode: none\n", Path(os.fsdecode(bytes(tmp_path) + b"/\xff"))]
        for name, file in zip(names, self.FILES, strict=True):
            name.write_text(Path(file).read_text())
        done = run("import", *map(str, names), "--psk-file", str(tmp_path / "psk"))
        assert done.returncode == 0
        assert done.stdout.splitlines()[1] == "version: 1"
        assert r"a\nmode: none\n" in done.stdout.splitlines()[0]


def test_a_key_in_documents_has_a_limit(tmp_path: Path) -> None:
    """It would not fit into the environment of a command, and pluto takes no such key."""
    path = tmp_path / "submariner.yaml"
    text = Path(TestImport.FILES[0]).read_text()
    path.write_text(
        text.replace(
            "ceIPSecPSKSecret: submariner-ipsec-psk", f"ceIPSecPSK: {'k' * 200_000}"
        ).partition("---")[0]
    )
    done = run("connect", str(path), TestImport.FILES[1], "--dry-run", "--local", "cluster1")
    assert done.returncode == 2
    assert done.stderr.endswith("allowed: printable text of at most 900 bytes\n")
    assert "kkk" not in done.stderr
