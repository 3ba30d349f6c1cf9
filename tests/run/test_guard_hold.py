"""The file by which a watcher holds a guard: locked, waited for, and no run of connect."""

import os

import pytest

from cablectl.errors import HostNotReadyError, TimeLimitError
from cablectl.run import guard_hold, journal
from cablectl.run.guard_hold import watched


def test_a_teardown_waits_for_the_watcher_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    hold = guard_hold.hold("x")
    monkeypatch.setattr(guard_hold, "LET_GO_LIMIT", 0)
    with watched(["x", "y"]) as held:
        held.await_end()  # nobody has removed the file
        (journal.DIRECTORY / "x.guard").unlink()
        with pytest.raises(TimeLimitError, match=rf"PID {os.getpid()}.* the guard of x"):
            held.await_end()
        hold.close()
        held.await_end()


def test_a_link_is_not_followed() -> None:
    journal.DIRECTORY.mkdir()
    (journal.DIRECTORY / "x.guard").symlink_to("/etc/passwd")
    with pytest.raises(HostNotReadyError, match=r"x\.guard"):
        guard_hold.hold("x")


def test_a_watcher_is_no_run() -> None:
    hold = guard_hold.hold("x")
    assert list(journal.runs()) == []
    with journal.held("x", 1, pytest.fail):
        pass
    assert not hold.lost
