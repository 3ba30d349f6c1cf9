"""A host on which the loop of a watch runs, with a reconciler that does nothing."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable, Set
from contextlib import ExitStack

import pytest

from cablectl.host import daemon, netlink, pluto_process
from cablectl.libreswan.pluto import Negotiations
from cablectl.model.cable import Cable
from cablectl.run import service
from cablectl.run.reconciler import Look, Reconciler
from cablectl.run.watch_loop import Watch
from tests.support.alive import alive, without_sa

Play = Callable[[], Look]
SOURCES = ("of_nftables", "of_network", "of_ipsec", "of_settings")


def end() -> None:
    os.kill(os.getpid(), signal.SIGTERM)


def hang_up() -> None:
    os.kill(os.getpid(), signal.SIGHUP)


class Keeper(Reconciler):
    """A reconciler that only notes when it is asked; the watch ends when no play is left."""

    def __init__(self, cable: Cable, *plays: Play) -> None:
        self.plays, self.times = list(plays), list[float]()
        self.silent: list[Set[str]] = []
        self.taken: tuple[Cable, ...] = (cable,)
        self.alone = self.closed = False

    def look(self, silent: Set[str] = frozenset(), down: Set[str] = frozenset()) -> Look:
        self.times.append(time.monotonic())
        self.silent.append(silent | down)
        if not self.plays:
            end()
            return Look()
        return self.plays.pop(0)()

    @property
    def contested(self) -> str:
        return ""

    def take(self, cables: tuple[Cable, ...]) -> None:
        self.taken = cables

    def close(self) -> None:
        self.closed = True

    @property
    def is_alone(self) -> bool:
        return self.alone


class Place:
    """A host: what netlink reports, whether pluto runs, and what it has negotiated."""

    def __init__(self, cable: Cable, stack: ExitStack, patch: pytest.MonkeyPatch) -> None:
        self.cable, self.senders = cable, dict[str, socket.socket]()
        self.lines, self.told = list[str](), list[str]()
        self.fields: list[dict[str, str]] = []
        self.pid, self.asked = "1", 0
        self.takes = 0.0  # seconds for an answer of pluto
        self.up = cable.names
        self.reload: Callable[[], tuple[Cable, ...]] = lambda: (cable,)
        for name in SOURCES:
            sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self.senders[name] = stack.enter_context(sender)
            changes = netlink.Changes(receiver)
            patch.setattr(netlink, name, lambda changes=changes: changes)
        patch.setattr(pluto_process, "pid", lambda: self.pid)
        patch.setattr(daemon, "negotiations", self._negotiations)
        patch.setattr(service, "tell", self.told.append)

    def _negotiations(self) -> Negotiations:
        self.asked += 1
        time.sleep(self.takes)
        return Negotiations(frozenset(self.up), frozenset())

    def reports(self, source: str, message: bytes) -> None:
        self.senders[source].send(message)

    def log(self, line: str, **fields: str) -> None:
        self.lines.append(line)
        self.fields.append(fields)

    def run(self, keeper: Keeper) -> None:
        Watch(keeper, lambda: self.reload(), self.log).run(lambda: self.log("ready"))
        assert keeper.closed

    def whole(self) -> Look:
        return Look((self.cable,), (alive(self.cable),))

    def down(self) -> Look:
        return Look((self.cable,), (without_sa(self.cable, alive(self.cable), 0, 1),))

    def then(self, *actions: Callable[[], object], look: Play | None = None) -> Play:
        """Return a play that does these actions, and finds the cable whole or as `look` says."""

        def play() -> Look:
            for action in actions:
                action()
            return (look or self.whole)()

        return play
