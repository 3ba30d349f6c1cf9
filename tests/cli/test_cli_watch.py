"""`cablectl watch`: what it refuses, and what only is told of its first connect."""

import os
import socket
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cablectl.cli import app, running, watch
from cablectl.errors import (
    CablectlError,
    ClientAwayError,
    HostNotReadyError,
    TimeLimitError,
    UsageError,
)
from cablectl.model.cable import Cable
from cablectl.plan.steps import Action, Outcome, Plan
from cablectl.run import journal, watch_loop
from tests.support.documents import document, meshed
from tests.support.watched import in_own_folder

SHAPE = "transport vxlan v4 mesh"
AWAY = ClientAwayError("the client didn't negotiate")
BROKEN = CablectlError("ip: no memory")


class Started:
    """A watch whose first connect has an outcome, and whose loop only notes that it began."""

    def __init__(self, file: Path, patch: pytest.MonkeyPatch) -> None:
        self.file, self.loops = file, 0
        self.outcome: Outcome | CablectlError = outcome()
        patch.setattr(running, "run", self._connect)
        patch.setattr(watch_loop.Watch, "run", self._loop)

    def _connect(self, *_: object) -> Outcome:
        if isinstance(self.outcome, CablectlError):
            raise self.outcome
        return self.outcome

    def _loop(self, *_: object) -> None:
        self.loops += 1

    def watch(self, *options: str) -> Result:
        words = ["watch", str(self.file), "--local", "cluster1", *options]
        return CliRunner().invoke(app, words)


def outcome(**failed: CablectlError) -> Outcome:
    cables: tuple[Cable, ...] = meshed(SHAPE)
    of_cable = {
        cable.id: failed[cable.remote.cluster] for cable in cables if cable.remote.cluster in failed
    }
    return Outcome(Plan(action=Action.CONNECT, cables=cables, facts=(), steps=()), of_cable)


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Started:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.delenv("JOURNAL_STREAM", raising=False)
    in_own_folder(monkeypatch)
    file = tmp_path / "cable.yaml"
    file.write_text(document(SHAPE))
    return Started(file, monkeypatch)


def test_systemd_gives_many_cables_more_time(
    started: Started, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """And a longer wait: it would kill watch in the middle of connect."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        started.watch("--timeout", "600")
        seconds = 600 + watch.OTHERWISE + 2 * watch.FOR_EACH
        assert manager.recv(100) == f"EXTEND_TIMEOUT_USEC={seconds}000000".encode()


def test_only_root_may(started: Started, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1)
    assert isinstance(started.watch().exception, HostNotReadyError)


@pytest.mark.parametrize("listen", ["9815", "localhost:9815", "127.0.0.1:0"])
def test_an_address_to_listen_on_that_is_none_is_refused(started: Started, listen: str) -> None:
    error = started.watch("--listen", listen).exception
    assert isinstance(error, UsageError)
    assert error.message.startswith(f"--listen '{listen}' is not an address and a port")
    assert started.loops == 0
    assert not journal.DIRECTORY.exists()


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (TimeLimitError("no Child SA within 60 s"), "no Child SA within 60 s"),
        (AWAY, "the client didn't negotiate"),
        (outcome(cluster2=AWAY, cluster3=BROKEN), "cluster3-172-18-0-6: ip: no memory"),
        (outcome(cluster2=BROKEN), "cluster2-172-18-0-7: ip: no memory"),
    ],
)
def test_what_can_come_up_later_is_only_told(
    started: Started, found: Outcome | CablectlError, told: str
) -> None:
    started.outcome = found
    done = started.watch()
    assert (done.exit_code, started.loops) == (0, 1)
    assert f"cablectl watch: {told}\n" in done.stderr


@pytest.mark.parametrize("found", [BROKEN, outcome(cluster2=BROKEN, cluster3=BROKEN)])
def test_if_no_cable_can_come_up_it_ends(started: Started, found: Outcome | CablectlError) -> None:
    started.outcome = found
    error = started.watch().exception
    assert isinstance(error, CablectlError)
    assert "ip: no memory" in "\n".join((error.message, *error.details))
    assert started.loops == 0
    assert not journal.DIRECTORY.exists()
