"""Ctrl-C, `kill` and a lost terminal end a run as an error does."""

import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


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
