"""Commands as processes: their output, their time limits, and how they end."""

import os
import time
from pathlib import Path

import pytest

from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.run import command
from cablectl.run.command import Shell, batch


class TestBatch:
    ARGVS = tuple(("ip", "route", "add", f"10.{number}.0.0/16") for number in range(4))

    def told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> dict[int, str]:
        (tmp_path / "ip").write_text(f"#!/bin/sh\ncat <<'E'\n{said}E\nexit 1\n")
        (tmp_path / "ip").chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        failed = batch(self.ARGVS, 5, "up")
        return {place: "|".join(error.details) for place, error in failed.items()}

    def test_the_lines_that_failed(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        said = "File exists\nCommand failed -:2\nNo device\nCommand failed -:4\n"
        assert self.told(tmp_path, monkeypatch, said) == {
            1: "$ ip route add 10.1.0.0/16|File exists",
            3: "$ ip route add 10.3.0.0/16|No device",
        }

    def test_an_end_without_a_word_leaves_the_rest_undone(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        said = "File exists\nCommand failed -:2\nError: a prefix is expected\n"
        assert self.told(tmp_path, monkeypatch, said).keys() == {1, 2, 3}


class TestShell:
    @pytest.fixture
    def shell(self, tmp_path: Path) -> Shell:
        return Shell([os.open(tmp_path / "lock", os.O_CREAT | os.O_RDWR)])

    def test_each_command_has_its_own_words_output_and_end(self, shell: Shell) -> None:
        assert shell.run(("/bin/echo", "it's $HOME", "a  b"), 5, "x") == "it's $HOME a  b\n"
        with pytest.raises(CablectlError, match="x: the command failed with exit code 3") as caught:
            shell.run(("/bin/sh", "-c", "echo out; echo err >&2; exit 3"), 5, "x", ("what", "for"))
        assert caught.value.details == ("$ what for", "out", "err")
        with pytest.raises(CablectlError, match="killed by signal 9"):
            shell.run(("/bin/sh", "-c", "kill -9 $$"), 5, "x")
        with pytest.raises(HostNotReadyError, match="is not installed"):
            shell.run(("no-such-program",), 5, "x")
        assert shell.run(("/bin/cat",), 5, "x") == ""
        shell.close()

    def test_a_time_limit_ends_the_command_and_not_the_work(
        self, shell: Shell, tmp_path: Path
    ) -> None:
        pid = tmp_path / "pid"
        with pytest.raises(TimeLimitError, match="took longer than") as caught:
            shell.run(("/bin/sh", "-c", f"echo $$ >{pid}; echo begun; exec sleep 60"), 0.5, "x")
        assert caught.value.details[1:] == ("begun",)
        last = time.monotonic() + 10
        while Path(f"/proc/{pid.read_text().strip()}/cwd").exists():  # a killed one takes a moment
            assert time.monotonic() < last
        assert shell.run(("/bin/echo", "again"), 5, "x") == "again\n"
        shell.close()


class TestRun:
    def test_output_of_both_streams(self) -> None:
        out = command.run(("/bin/sh", "-c", "echo one; echo two >&2"), 5, "x")
        assert sorted(out.split()) == ["one", "two"]

    def test_no_terminal_and_no_input(self) -> None:
        script = "[ -t 0 ] || [ -t 1 ] && exit 1; cat"
        assert command.run(("/bin/sh", "-c", script), 5, "x") == ""

    def test_a_time_limit_shows_what_was_printed(self) -> None:
        with pytest.raises(TimeLimitError) as caught:
            command.run(("/bin/sh", "-c", "echo begun; exec sleep 60"), 1, "add")
        assert caught.value.message == "add: the command took longer than 1 s"
        assert caught.value.details[1:] == ("begun",)

    def test_a_signal_is_no_exit_code(self) -> None:
        with pytest.raises(CablectlError, match="killed by signal 9"):
            command.run(("/bin/sh", "-c", "kill -9 $$"), 5, "x")

    def test_long_output_is_cut_at_its_beginning(self) -> None:
        with pytest.raises(CablectlError) as caught:
            command.run(("/bin/sh", "-c", "seq 1 1000; exit 1"), 5, "x")
        assert caught.value.details[1:] == tuple(str(i) for i in range(981, 1001))

    def test_a_missing_program(self) -> None:
        with pytest.raises(HostNotReadyError, match="is not installed"):
            command.run(("no-such-program",), 5, "x")
