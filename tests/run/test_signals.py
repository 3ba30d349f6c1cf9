"""Ctrl-C, `kill` and a lost terminal: what was begun is undone."""

import signal
import threading
import time

import pytest

from cablectl.linux import guard
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.plan.steps import Action, Phase, Plan, Step
from tests.support.executor import (
    Commands,
    Told,
    apply,
    words,
)
from tests.support.plans import BLANK


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_is_undone_like_a_failure(
    cable: Cable, commands: Commands, number: signal.Signals
) -> None:
    """It comes while the Child SAs are awaited, as a person's Ctrl-C does."""
    told = Told()
    main = threading.main_thread().ident
    assert main
    kill = threading.Timer(1.5, signal.pthread_kill, (main, number))
    before = signal.getsignal(number)
    kill.start()
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        apply(cable, lambda: connect_plan.plan((cable,), (BLANK,), limit=30), told)
    assert words(told.undone[0]) == f"ipsec whack --delete --name {cable.connections[1].name}"
    assert words(told.undone[-2]) == "ipsec whack --rereadsecrets"
    assert told.undone[-1] == guard.remove(cable)
    assert signal.getsignal(number) == before


def test_ctrl_c_does_not_stop_the_undo(cable: Cable, commands: Commands) -> None:
    undo = ((str(commands.folder / "rm"), "one"), ("/bin/sleep", "1"), ("rm", "two"))
    slow = Step(phase=Phase.ADD, argv=("/bin/sleep", "60"), why="", undo=undo, limit=50)
    plan = Plan(action=Action.CONNECT, cables=(cable,), facts=(BLANK,), steps=(slow,))
    main = threading.main_thread().ident
    assert main
    for delay in (0.5, 1.0):
        threading.Timer(delay, signal.pthread_kill, (main, signal.SIGINT)).start()
    with pytest.raises(KeyboardInterrupt):
        apply(cable, lambda: plan, Told())
    assert commands.log == ["rm one", "rm two"]


def test_ctrl_c_kills_the_running_command_and_undoes_it(cable: Cable, commands: Commands) -> None:
    slow = Step(phase=Phase.ADD, argv=("/bin/sleep", "60"), why="", undo=(("rm", "it"),), limit=50)
    plan = Plan(action=Action.CONNECT, cables=(cable,), facts=(BLANK,), steps=(slow,))
    main = threading.main_thread().ident
    assert main
    threading.Timer(1, signal.pthread_kill, (main, signal.SIGINT)).start()
    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        apply(cable, lambda: plan, Told())
    assert commands.log == ["rm it"]
    assert time.monotonic() - began < 30
