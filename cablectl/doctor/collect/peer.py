"""Asks the peer's ports: an IKE_SA_INIT from the local address and a port of its own."""

import os
import selectors
import socket
import time
from collections.abc import Iterable

from cablectl.doctor import ike
from cablectl.doctor.evidence import Reply
from cablectl.model.wishes import AnyAddress

PATIENCE = (0.5, 1.5, 3.0)  # seconds until it is asked again, since one may be lost; then silence
_MAX_DATAGRAM = 65535  # bytes


class _Question:
    """What was asked of one port, and what came of it."""

    def __init__(self, local: AnyAddress, remote: AnyAddress, port: int) -> None:
        self.reply: Reply | None = None
        self._port, self._spi = port, os.urandom(ike.SPI_SIZE)
        self._request = ike.request(port, self._spi, os.urandom(ike.NONCE_SIZE))
        family = socket.AF_INET if local.version == 4 else socket.AF_INET6
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            self.socket.bind((str(local), 0))
            self.socket.connect((str(remote), port))  # so that a refusal by ICMP is told
        except OSError as error:
            self.reply = Reply(error=str(error.strerror))

    def send(self) -> None:
        try:
            self.socket.send(self._request)
        except OSError as error:  # by what came back of the one before, or by a filter here
            self._failed(error)

    def receive(self) -> None:
        try:
            told = ike.answer(self.socket.recv(_MAX_DATAGRAM), self._port, self._spi)
        except BlockingIOError:
            return
        except OSError as error:
            self._failed(error)
            return
        if told:
            self.reply = Reply(answer=told)

    def _failed(self, error: OSError) -> None:
        refused = isinstance(error, ConnectionRefusedError)
        self.reply = Reply(refused=refused, error="" if refused else str(error.strerror))


def ask(local: AnyAddress, remote: AnyAddress, ports: Iterable[int]) -> dict[int, Reply]:
    """Return what came of each port, within three seconds."""
    questions = {port: _Question(local, remote, port) for port in ports}
    begin = time.monotonic()
    try:
        for seconds in PATIENCE:
            for each in _open(questions.values()):
                each.send()
            _await(_open(questions.values()), begin + seconds)
    finally:
        for each in questions.values():
            each.socket.close()
    return {port: each.reply or Reply() for port, each in questions.items()}


def _open(questions: Iterable[_Question]) -> list[_Question]:
    return [each for each in questions if each.reply is None]


def _await(questions: list[_Question], deadline: float) -> None:
    """Receive until each has its reply, or until a moment of the monotonic clock."""
    with selectors.DefaultSelector() as selector:
        for each in questions:
            selector.register(each.socket, selectors.EVENT_READ, each)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data.receive()
                if key.data.reply:
                    selector.unregister(key.fileobj)
