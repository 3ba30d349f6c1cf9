"""Ctrl-C, `kill` and a lost terminal: what was begun is undone."""

import os
import select
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from msgspec.structs import replace

from cablectl.linux import guard, mss
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.plan.steps import Action, Phase, Plan, Step
from cablectl.run import signals
from tests.support.executor import Commands, Told, apply, in_turn, words
from tests.support.plans import BLANK
from tests.support.signals import ENDING, handled


@pytest.fixture(autouse=True)
def as_from_a_terminal() -> Iterator[None]:
    with handled():
        yield


class Killed(Told):
    """A progress during which signals come, each time that Child SAs are awaited."""

    def __init__(self, *numbers: signal.Signals) -> None:
        super().__init__()
        self._numbers = numbers

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        for number in self._numbers:
            os.kill(os.getpid(), number)


def script(text: str) -> Argv:
    """Return a command that may send a signal to whoever runs it: the tests."""
    return ("/bin/sh", "-c", text.replace("TESTS", str(os.getpid())))


def one_step(cable: Cable, argv: Argv, *undo: Argv, limit: float = 50) -> Callable[[], Plan]:
    step = Step(phase=Phase.ADD, argv=argv, why="", undo=undo, limit=limit)
    plan = Plan(action=Action.CONNECT, cables=(cable,), facts=(BLANK,), steps=(step,))
    return lambda: plan


@pytest.mark.parametrize("number", ENDING)
def test_a_signal_is_undone_like_a_failure(
    cable: Cable, commands: Commands, number: signal.Signals
) -> None:
    """It comes while the Child SAs are awaited, as a person's Ctrl-C does."""
    told = Killed(number)
    before = signal.getsignal(number)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        apply(cable, lambda: connect_plan.plan((cable,), (BLANK,), limit=30), told)
    assert words(told.undone[0]) == f"ipsec whack --delete --name {cable.connections[1].name}"
    assert words(told.undone[-3]) == "ipsec whack --rereadsecrets"
    assert told.undone[-2] == mss.remove(mss.name(cable))
    assert told.undone[-1] == guard.remove(cable)
    assert signal.getsignal(number) == before


def test_ctrl_c_does_not_stop_the_undo(cable: Cable, commands: Commands) -> None:
    """A person who presses it again sees the undo come to its end."""
    running = script("kill -INT TESTS; exec sleep 60")
    undo = (("rm", "one"), script("kill -INT TESTS"), ("rm", "two"))
    with pytest.raises(KeyboardInterrupt):
        apply(cable, one_step(cable, running, *undo), Told())
    assert commands.log == ["rm one", "rm two"]


class Sleeper:
    """A command that takes longer than any test."""

    def __init__(self, folder: Path) -> None:
        self._pid = folder / "pid"
        self.argv = ("/bin/sh", "-c", f"echo $$ >{self._pid}; exec sleep 600")

    def interrupt(self) -> None:
        """Send Ctrl-C to whoever runs it, as soon as it has begun."""
        while not (self._pid.exists() and self._pid.read_text()):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    def ended(self) -> None:
        while Path(f"/proc/{self._pid.read_text().strip()}/cwd").exists():
            time.sleep(0.01)


def test_ctrl_c_kills_the_running_command_and_undoes_it(
    cable: Cable, commands: Commands, tmp_path: Path
) -> None:
    sleeper = Sleeper(tmp_path)
    sender = threading.Thread(target=sleeper.interrupt)
    sender.start()
    with pytest.raises(KeyboardInterrupt):
        apply(cable, one_step(cable, sleeper.argv, ("rm", "it"), limit=900), Told())
    sender.join()
    sleeper.ended()
    assert commands.log == ["rm it"]


def test_ctrl_c_at_the_moment_a_command_begins_kills_it_as_well(
    cable: Cable, commands: Commands, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or it would go on beside its own undo."""
    sleeper = Sleeper(tmp_path)

    def written(file: int, line: bytes) -> int:
        """The shell has the command, and nothing awaits its end yet."""
        count = write(file, line)
        if b"end of command" in line:
            sleeper.interrupt()
        return count

    write = os.write
    monkeypatch.setattr("cablectl.run.command.os.write", written)
    with pytest.raises(KeyboardInterrupt):
        apply(cable, one_step(cable, sleeper.argv, ("rm", "it"), limit=900), Told())
    sleeper.ended()
    assert commands.log == ["rm it"]


@pytest.mark.parametrize("number", ENDING)
def test_what_whoever_started_us_ignores_stays_ignored(
    cable: Cable, commands: Commands, number: signal.Signals
) -> None:
    """Under `nohup`, or in the background of a script: the lost terminal ends nothing."""
    signal.signal(number, signal.SIG_IGN)
    told = Told()
    begun = one_step(cable, script(f"kill -{number} TESTS"), ("rm", "it"))()
    apply(cable, in_turn(begun, replace(begun, steps=())), told)
    assert told.steps == [(1, 1)]
    assert told.undone == []
    assert signal.getsignal(number) is signal.SIG_IGN


def test_each_signal_is_handled_for_a_while_unless_it_was_ignored() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with signals.handled(signals.leave):
        assert [signal.getsignal(number) for number in ENDING] == [
            *(signals.leave, signals.leave, signal.SIG_IGN)
        ]
    assert [signal.getsignal(number) for number in ENDING] == [
        *(signal.default_int_handler, signal.SIG_DFL, signal.SIG_IGN)
    ]


def test_a_signal_right_before_a_wait_is_late_by_a_slice_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Python handles it only when the system call ends."""
    waited, wait = list[float](), select.select

    def told(
        read: list[int], write: list[int], error: list[int], seconds: float
    ) -> tuple[list[int], list[int], list[int]]:
        waited.append(seconds)
        return wait(read, write, error, seconds)

    monkeypatch.setattr(select, "select", told)
    monkeypatch.setattr(signals, "SLICE", 0.02)
    receiver, sender = os.pipe()
    try:
        assert not signals.readable(receiver, 0.1)
        assert len(waited) > 3
        assert max(waited) <= 0.02
        os.write(sender, b"x")
        assert signals.readable(receiver)
    finally:
        os.close(receiver)
        os.close(sender)
