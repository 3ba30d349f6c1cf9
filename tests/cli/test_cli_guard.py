"""`cablectl guard`: what it refuses, when it has nothing to do, and when it reads a file again."""

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cablectl.cli import app
from cablectl.cli.guard_ import Described
from cablectl.errors import HostNotReadyError, UsageError
from tests.support.documents import document

RUNNER = CliRunner()
TEXT = document("transport vxlan v4")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file of root, as whom the command runs."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    path = tmp_path / "cable.yaml"
    path.write_text(TEXT)
    return path


@pytest.mark.parametrize("text", [f"guard: false\n{TEXT}", document("none vxlan v4")])
def test_without_a_wish_for_a_guard_systemd_is_told_and_that_is_all(
    file: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    file.write_text(text)
    monkeypatch.setenv("NOTIFY_SOCKET", str(file.with_name("notify")))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(file.with_name("notify")))
        done = RUNNER.invoke(app, ["guard", str(file)])
        assert (done.exit_code, done.output) == (0, "the file wants no guard\n")
        assert manager.recv(100) == b"READY=1"


def test_an_unknown_end_is_refused(file: Path) -> None:
    done = RUNNER.invoke(app, ["guard", str(file), "--local", "elsewhere"])
    assert isinstance(done.exception, UsageError)
    assert done.exception.message.startswith("--local 'elsewhere'")


def test_only_root_may(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    done = RUNNER.invoke(app, ["guard", str(file)])
    assert isinstance(done.exception, HostNotReadyError)


class TestFile:
    def test_as_it_was_it_is_not_read_again(self, file: Path) -> None:
        assert Described([str(file)]).if_changed() is None

    def test_changed_it_is_read_once(self, file: Path) -> None:
        described = Described([str(file)])
        file.write_text(TEXT.replace("10.45.", "10.145."))
        network = described.if_changed()
        assert network
        assert str(network.endpoints[1].networks[0]) == "10.145.0.0/16"
        assert described.if_changed() is None

    @pytest.mark.parametrize("deleted", [False, True])
    def test_with_an_error_it_is_reported_once(
        self, file: Path, capsys: pytest.CaptureFixture[str], *, deleted: bool
    ) -> None:
        described = Described([str(file)])
        if deleted:
            file.unlink()
        else:
            file.write_text("version: 1\n")
        assert described.if_changed() is None
        assert described.if_changed() is None
        (line,) = capsys.readouterr().err.splitlines()
        assert line.startswith(f"cablectl guard: the guard stays as it is: {file}:")

    def test_standard_input_has_no_changes(self) -> None:
        assert Described(["-"]).if_changed() is None
