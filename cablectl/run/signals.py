"""Ctrl-C, `kill` and a lost terminal end a program the way a failure does."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


def leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End in an exception: what was begun is undone, or a terminal left as it was."""
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise SystemExit(128 + number)


@contextmanager
def handled(
    handler: Callable[[int, FrameType | None], object] | signal.Handlers,
) -> Iterator[None]:
    """Have signals handled for a while, but for those that whoever started us has ignored."""
    before = {
        each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    }
    changed = {each: old for each, old in before.items() if old is not signal.SIG_IGN}
    for each in changed:
        signal.signal(each, handler)
    try:
        yield
    finally:
        for each, old in changed.items():
            signal.signal(each, old)


@contextmanager
def deferred(handler: Callable[[int, None], NoReturn]) -> Iterator[None]:
    """Have what must not be cut off come to its end, and only then handle the first signal."""
    came: list[int] = []
    with handled(lambda number, _: came.append(number)):
        yield
    for number in came:
        handler(number, None)
