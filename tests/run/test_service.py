"""What a unit of Type=notify tells systemd."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from cablectl.run import service


@pytest.mark.parametrize("abstract", [False, True])
def test_systemd_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, abstract: bool
) -> None:
    name = f"cablectl-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(f"\0{name}" if abstract else name)
        service.tell_ready()
        assert manager.recv(100) == b"READY=1"


def test_without_systemd_nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    service.tell_ready()


@pytest.fixture
def journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """The socket of the journal, to which this service's standard error leads."""
    monkeypatch.setenv("JOURNAL_STREAM", "8:1")
    monkeypatch.setattr(service, "JOURNAL", str(tmp_path / "journal"))
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as opened:
        opened.bind(service.JOURNAL)
        yield opened


def test_a_line_for_the_journal_has_its_fields(journal: socket.socket) -> None:
    service.log("c2 is up", "watch", cable="c2", error="one\nPRIORITY=0")
    assert journal.recv(1000).decode().splitlines() == [
        "MESSAGE=c2 is up",
        "PRIORITY=6",
        "SYSLOG_IDENTIFIER=cablectl-watch",
        "CABLECTL_CABLE=c2",
        "CABLECTL_ERROR=one",
    ]


def test_a_name_that_is_no_utf_8_is_no_error(journal: socket.socket) -> None:
    service.log("file \udcff", "watch")
    assert journal.recv(1000).startswith(b"MESSAGE=file ?\n")


@pytest.mark.parametrize("stream", ["", "8:1"])
def test_without_the_journal_a_line_goes_to_stderr(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], stream: str
) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream)
    monkeypatch.setattr(service, "JOURNAL", str(tmp_path / "none"))
    service.log("c2 is up", "watch", cable="c2")
    assert capsys.readouterr().err == "cablectl watch: c2 is up\n"


@pytest.mark.parametrize(
    ("text", "pid", "seconds"),
    [("", "", None), ("x", "", None), ("30000000", "", 30.0), ("30000000", "1", None)],
)
def test_the_time_of_the_watchdog_is_that_of_this_process(
    monkeypatch: pytest.MonkeyPatch, text: str, pid: str, seconds: float | None
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", text)
    monkeypatch.setenv("WATCHDOG_PID", pid)
    assert service.watchdog() == seconds
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    assert service.watchdog() == (30.0 if text == "30000000" else None)
