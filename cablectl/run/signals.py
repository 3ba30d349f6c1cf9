"""Ctrl-C, `kill` and a lost terminal end a run as an error does."""

import math
import select
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn

SLICE = 0.5  # seconds for which a signal may wait


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """Raise an exception, so that a run rolls back, or restores the terminal."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextmanager
def handled(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers,
) -> Iterator[None]:
    """Handle signals for a while, except signals that this program was started to ignore."""
    before = {
        number: signal.getsignal(number)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    changed = {number: old for number, old in before.items() if old is not signal.SIG_IGN}
    for number in changed:
        signal.signal(number, handler)
    try:
        yield
    finally:
        for number, old in changed.items():
            signal.signal(number, old)


@contextmanager
def deferred(handler: Callable[[int, None], NoReturn]) -> Iterator[None]:
    """Let a block run to its end, and only then handle the first signal."""
    received: list[int] = []
    with handled(lambda number, _: received.append(number)):
        yield
    for number in received:
        handler(number, None)


@contextmanager
def postponed(*numbers: signal.Signals) -> Iterator[None]:
    """Let signals arrive only after the block."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, numbers)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def readable(file: int, seconds: float = math.inf) -> bool:
    """Wait for so many seconds until a file can be read; tell whether it can.

    A signal that comes right before a system call begins doesn't end it, and Python handles it only
    afterwards. So a call lasts at most SLICE.
    """
    until = time.monotonic() + seconds
    while not select.select([file], (), (), max(0.0, min(SLICE, until - time.monotonic())))[0]:
        if time.monotonic() >= until:
            return False
    return True


@contextmanager
def wakeups() -> Iterator[socket.socket]:
    """Yield a socket that gets the number of each signal in a byte; a running command goes on."""
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    before = signal.set_wakeup_fd(sender.fileno())
    with receiver, sender, handled(lambda _number, _frame: None):
        try:
            yield receiver
        finally:
            signal.set_wakeup_fd(before)
