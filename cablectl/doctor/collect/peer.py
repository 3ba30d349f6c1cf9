"""Sends an IKE_SA_INIT to the peer's ports, from the local address and an unused port."""

import os
import selectors
import socket
import time
from collections.abc import Iterable

from cablectl.doctor import ike
from cablectl.doctor.evidence import Reply
from cablectl.model.wishes import AnyAddress

# A request may be lost: in seconds, when it is sent again (twice), and when the peer is silent.
PATIENCE = (0.5, 1.5, 3.0)
_MAX_DATAGRAM = 65535  # bytes


class _Question:
    """A request to one port, and its reply."""

    def __init__(self, local: AnyAddress, remote: AnyAddress, port: int) -> None:
        self.reply: Reply | None = None
        self._port, self._spi = port, os.urandom(ike.SPI_SIZE)
        self._request = ike.request(port, self._spi, os.urandom(ike.NONCE_SIZE))
        family = socket.AF_INET if local.version == 4 else socket.AF_INET6
        self.socket = socket.socket(family, socket.SOCK_DGRAM)
        self.socket.setblocking(False)
        try:
            self.socket.bind((str(local), 0))
            self.socket.connect((str(remote), port))  # so the kernel reports a refusal by ICMP
        except OSError as error:
            self.reply = Reply(error=str(error.strerror))

    def send(self) -> None:
        try:
            self.socket.send(self._request)
        except OSError as error:  # a refusal of the previous request, or a filter on this host
            self._fail(error)

    def receive(self) -> None:
        try:
            answer = ike.answer(self.socket.recv(_MAX_DATAGRAM), self._port, self._spi)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(error)
            return
        if answer:
            self.reply = Reply(answer=answer)

    def _fail(self, error: OSError) -> None:
        refused = isinstance(error, ConnectionRefusedError)
        self.reply = Reply(refused=refused, error="" if refused else str(error.strerror))


def ask(local: AnyAddress, remote: AnyAddress, ports: Iterable[int]) -> dict[int, Reply]:
    """Return the reply of each port, after at most three seconds."""
    questions = {port: _Question(local, remote, port) for port in ports}
    begin = time.monotonic()
    try:
        for seconds in PATIENCE:
            for question in _open(questions.values()):
                question.send()
            _receive(_open(questions.values()), begin + seconds)
    finally:
        for question in questions.values():
            question.socket.close()
    return {port: question.reply or Reply() for port, question in questions.items()}


def _open(questions: Iterable[_Question]) -> list[_Question]:
    return [question for question in questions if question.reply is None]


def _receive(questions: list[_Question], deadline: float) -> None:
    """Receive until every question has its reply, or until `deadline` (time.monotonic)."""
    with selectors.DefaultSelector() as selector:
        for question in questions:
            selector.register(question.socket, selectors.EVENT_READ, question)
        while selector.get_map() and (left := deadline - time.monotonic()) > 0:
            for key, _ in selector.select(left):
                key.data.receive()
                if key.data.reply:
                    selector.unregister(key.fileobj)
