"""`cablectl status` as a process, with reports in the place of a host: exit codes, and a watch."""

import json
import os
import pty
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from msgspec import json as encoding

from cablectl.model.cable import Cable
from cablectl.status import state
from cablectl.status.report import StatusReport
from tests.support.alive import BLANK, NOW, alive, report
from tests.support.places import EXAMPLES
from tests.support.program import run
from tests.support.signals import UNIGNORED
from tests.support.terminal import shown_on

# The program, whose reports are those in a file, the last one again and again; no time passes.
PROGRAM = """
import sys
from itertools import chain, repeat
from pathlib import Path
from msgspec import json
from cablectl.cli import main
from cablectl.host import cables
from cablectl.status.report import StatusReport
reports = json.decode(Path(sys.argv.pop(1)).read_bytes(), type=list[StatusReport])
looks = chain(reports, repeat(reports[-1]))
cables.report_of_all = lambda: next(looks)
cables.report_of = lambda cable: next(looks)
cables.INTERVAL = 0.01
sys.argv[0] = "cablectl"
main()
"""


@pytest.fixture
def up(cable: Cable) -> StatusReport:
    return report(state.of(cable, alive(cable), NOW))


@pytest.fixture
def down(cable: Cable) -> StatusReport:
    return report(state.of(cable, BLANK, NOW), time=NOW + 2)


def command(folder: Path, *reports: StatusReport) -> list[str]:
    file = folder / "reports.json"
    file.write_bytes(encoding.encode(reports))
    return [sys.executable, "-c", PROGRAM, str(file), "status"]


def status(folder: Path, told: StatusReport, *args: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    argv = [*command(folder, told), *args]
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)


@pytest.mark.parametrize("args", [(), ("--format", "json"), ("--format", "prometheus")])
def test_the_exit_code_tells_up_from_not_up(
    tmp_path: Path, up: StatusReport, down: StatusReport, args: tuple[str, ...]
) -> None:
    both = report(*up.cables, *down.cables)
    for told, code in ((up, 0), (down, 1), (both, 1), (report(), 1)):
        done = status(tmp_path, told, *args)
        assert (done.returncode, done.stderr) == (code, "")
        assert done.stdout


def test_of_a_file(tmp_path: Path, up: StatusReport) -> None:
    file = str(EXAMPLES / "quickstart.yaml")
    done = status(tmp_path, up, file, "--local", "cluster1", "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout)["result"]["cables"][0]["verdict"] == "up"


@pytest.mark.parametrize(
    "args", [("--local", "cluster1"), ("--watch", "--format", "prometheus"), ("no-such-file",)]
)
def test_bad_usage(tmp_path: Path, up: StatusReport, args: tuple[str, ...]) -> None:
    done = status(tmp_path, up, *args)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("cablectl: ")


def test_a_host_that_is_not_ready() -> None:
    """Root or not, a stand-in is no Libreswan."""
    done = run("status")
    assert (done.returncode, done.stdout) == (3, "")


@contextmanager
def watching(argv: list[str], to: int = subprocess.PIPE) -> Iterator[subprocess.Popen[str]]:
    """Start a watch on pipes, or on the terminal given, and kill it in the end."""
    argv = [*UNIGNORED, *argv]
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"}
    with subprocess.Popen(argv, text=True, env=environment, stdout=to, stderr=to) as process:
        try:
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_watch_in_a_pipe_ends_with_a_signal(
    tmp_path: Path, up: StatusReport, down: StatusReport, sent: signal.Signals, code: int
) -> None:
    argv = [*command(tmp_path, up, up, down), "--watch"]
    with watching(argv) as process:
        assert process.stdout
        first, second = process.stdout.readline(), process.stdout.readline()
        process.send_signal(sent)
        rest, errors = process.communicate(timeout=30)
    assert first.endswith(" submariner-cable-cluster2-172-18-0-7 up\n")
    assert second.endswith(" down: this host has nothing of the cable\n")
    assert (process.returncode, rest, errors) == (code, "", "")


def test_a_watch_in_json(tmp_path: Path, up: StatusReport) -> None:
    argv = [*command(tmp_path, up), "--watch", "--format", "json"]
    with watching(argv) as process:
        assert process.stdout
        told = [json.loads(process.stdout.readline()) for _ in range(3)]
    assert [each["result"]["cables"][0]["verdict"] for each in told] == ["up"] * 3


def test_a_reader_that_leaves_a_watch_sees_no_traceback(tmp_path: Path, up: StatusReport) -> None:
    argv = [*command(tmp_path, up), "--watch", "--format", "json"]
    with watching(argv) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.wait(30) == 1
        assert process.stderr.read() == ""


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_watch_leaves_the_terminal_as_it_was(
    tmp_path: Path, up: StatusReport, sent: signal.Signals, code: int
) -> None:
    reader, writer = pty.openpty()
    with watching([*command(tmp_path, up), "--watch"], writer) as process:
        os.close(writer)
        shown = b""
        while shown.count(b"degraded") + shown.count(b"Child SA") < 2:
            shown += os.read(reader, 1 << 16)
        process.send_signal(sent)
        assert process.wait(30) == code
    text = shown.decode() + shown_on(reader)
    assert text.count("\x1b[?25l") == text.count("\x1b[?25h") == 1  # hidden, and shown again
    assert text.rstrip().endswith("\x1b[?25h")
    assert "Traceback" not in text
