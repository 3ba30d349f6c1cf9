"""Signals as a test needs them, however the tests themselves were started.

What runs under `nohup`, or in the background of a shell script, has SIGHUP or SIGINT ignored, and
hands that down to its children.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Before the words of a command: it begins with these signals unhandled and not ignored.
UNIGNORED = ("env", "--default-signal=INT,TERM,HUP")


@contextmanager
def handled() -> Iterator[None]:
    """Have this process handle the signals as Python does from a terminal."""
    before = [(number, signal.signal(number, signal.SIG_DFL)) for number in ENDING]
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
