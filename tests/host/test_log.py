"""pluto's log: what it says from a moment on, about one connection."""

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from pytest_subprocess import FakeProcess

from cablectl.host import pluto_log, pluto_process
from cablectl.host.pluto_log import PlutoLog

BEFORE = '"x" #1: authentication failed: an hour ago\n'
SINCE = """\
"x" #2: responder established IKE SA
"x-1" #3: of another connection
packet from 172.18.0.7:500: IKE_SA_INIT message received but no suitable connection found
packet from 172.18.0.71:500: of another peer
packet from [2001:db8::7]:4500: over IPv6
"""


@pytest.fixture
def written(tmp_path: Path, fp: FakeProcess, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A log that ipsec.conf names, with something in it."""
    fp.allow_unregistered(False)
    monkeypatch.setattr(pluto_process, "ROOT", os.getuid())  # who runs the tests
    monkeypatch.setattr(pluto_process, "PID", tmp_path / "pluto.pid")
    monkeypatch.setattr(pluto_log, "CONFIG", tmp_path / "ipsec.conf")
    (tmp_path / "ipsec.conf").write_text(f"config setup\n\tlogfile={tmp_path}/pluto.log\n")
    (tmp_path / "pluto.log").write_text(BEFORE)
    return tmp_path / "pluto.log"


def test_only_what_came_since_and_only_what_is_ours(written: Path) -> None:
    since = PlutoLog()
    with written.open("a") as file:
        file.write(SINCE)
    lines = SINCE.splitlines()
    assert since.about("x", address="172.18.0.7").splitlines() == [lines[0], lines[2]]
    assert since.about("y", address="2001:db8::7") == lines[4]


def test_of_a_long_log_the_end(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    since = PlutoLog()
    monkeypatch.setattr(pluto_log, "MAX_READ", 20)
    written.write_text(BEFORE + '"x" #1: early\n' + '"x" #2: the last\n')
    assert since.about("x", address="172.18.0.7") == '"x" #2: the last'


def test_the_journal_where_there_is_no_file(
    fp: FakeProcess, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pluto_process, "PID", tmp_path / "missing")
    monkeypatch.setattr(pluto_log, "CONFIG", tmp_path / "missing")
    monkeypatch.setattr("time.time", lambda: 1795489782.4)
    command = "journalctl -u ipsec -o cat --since @1795489782"
    fp.register(command.split(), stdout='"x" #2: here\n')
    assert PlutoLog().about("x", address="172.18.0.7") == '"x" #2: here'


@contextmanager
def running(fp: FakeProcess, tmp_path: Path, name: str) -> Iterator[None]:
    """Run a program of that name whose arguments name another log, with the PID in the PID file."""
    program = tmp_path / name
    program.symlink_to("/bin/sh")
    argv = [str(program), "-c", "echo ready; read line", "--logfile", str(tmp_path / "other.log")]
    fp.pass_command(argv)
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe) as process:
        assert process.stdout
        process.stdout.readline()  # from here on its arguments are those
        (tmp_path / "pluto.pid").write_text(f"{process.pid}\n")
        yield
        process.communicate(b"\n")


def heard(since: PlutoLog, written: Path, tmp_path: Path) -> str:
    """Write a line into both logs, and return the line that is read."""
    for file, where in ((written, "configuration"), (tmp_path / "other.log", "arguments")):
        with file.open("a") as log:
            log.write(f'"x" #2: of the {where}\n')
    return since.read().partition(": ")[2].strip()


def test_the_file_of_its_arguments_goes_before_that_of_the_configuration(
    written: Path, tmp_path: Path, fp: FakeProcess
) -> None:
    with running(fp, tmp_path, "pluto"):
        since = PlutoLog()
    assert heard(since, written, tmp_path) == "of the arguments"


class TestNotBelieved:
    """What any user can start or make."""

    def test_a_process_of_another_user(
        self, written: Path, tmp_path: Path, fp: FakeProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(pluto_process, "PROC", tmp_path / "proc")
        (tmp_path / "proc").symlink_to("/proc")
        with running(fp, tmp_path, "pluto"):
            monkeypatch.setattr(pluto_process, "ROOT", os.getuid() + 1)
            since = PlutoLog()
        monkeypatch.setattr(pluto_process, "ROOT", os.getuid())
        assert heard(since, written, tmp_path) == "of the configuration"

    def test_another_program(self, written: Path, tmp_path: Path, fp: FakeProcess) -> None:
        """The PID of a pluto that was killed may be that of any program now."""
        with running(fp, tmp_path, "plutonium"):
            since = PlutoLog()
        assert heard(since, written, tmp_path) == "of the configuration"

    @pytest.mark.parametrize("pid", ["", "../1", "self", "4194305"])
    def test_what_is_no_pid(self, written: Path, tmp_path: Path, pid: str) -> None:
        (tmp_path / "pluto.pid").write_text(pid)
        assert PlutoLog(whole=True).read() == BEFORE

    def test_a_file_of_another_user(self, written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pluto_process, "ROOT", os.getuid() + 1)
        assert PlutoLog(whole=True).read() == ""

    def test_a_fifo(self, written: Path) -> None:
        """Opening one would wait for a writer."""
        written.unlink()
        os.mkfifo(written)
        assert PlutoLog(whole=True).read() == ""

    def test_a_fifo_that_comes_in_between(
        self, written: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        since = PlutoLog(whole=True)
        judge, replaced = pluto_log._is_of_root, list[bool]()

        def judged(status: os.stat_result) -> bool:
            if not replaced:
                replaced.append(True)
                written.unlink()
                os.mkfifo(written)
                return True
            return judge(status)

        monkeypatch.setattr(pluto_log, "_is_of_root", judged)
        assert since.read() == ""
        assert replaced

    def test_a_directory(self, written: Path) -> None:
        written.unlink()
        written.mkdir()
        assert PlutoLog(whole=True).read() == ""


def test_nothing_where_it_cannot_be_had(written: Path) -> None:
    since = PlutoLog()
    written.unlink()
    assert since.about("x", address="172.18.0.7") == ""


def test_the_whole_of_it_as_well(written: Path, fp: FakeProcess) -> None:
    whole = PlutoLog(whole=True)
    assert whole.read() == BEFORE
    written.write_text(BEFORE + SINCE)
    assert whole.about("x") == "\n".join([BEFORE.strip(), SINCE.splitlines()[0]])
    pluto_log.CONFIG.unlink()
    fp.register("journalctl -u ipsec -o short-iso -n 5000".split(), stdout="all\n")
    assert PlutoLog(whole=True).read() == "all\n"
