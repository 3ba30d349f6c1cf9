"""Sends echo requests through the cable and counts the answers, without ping."""

import os
import socket
import time
from itertools import count
from typing import Self

from cablectl.errors import HostNotReadyError
from cablectl.host.echoes import PROTOCOLS
from cablectl.linux import icmp
from cablectl.verification.proof import Answers

INTERVAL = 0.05  # seconds between two requests
PATIENCE = 2.0  # seconds for an answer
# linux/in.h, linux/in6.h: set DF, like `ping -M do`.
_MTU_DISCOVER = {4: (socket.IPPROTO_IP, 10), 6: (socket.IPPROTO_IPV6, 23)}
_DO = 2


class Echo:
    """A sender between two addresses of one IP version, as a context manager."""

    def __init__(self, version: int, source: str, target: str) -> None:
        self._version, self._ends = version, (source, target)
        self._id = int.from_bytes(os.urandom(2))
        self._token = os.urandom(8)  # identifies our packets
        self._numbers = count()
        self._waiting: dict[int, float] = {}
        self._slowest = 0.0
        self._error = ""

    def __enter__(self) -> Self:
        """Open the socket; HostNotReadyError without the privilege, or without the address."""
        family = socket.AF_INET if self._version == 4 else socket.AF_INET6
        source, target = self._ends
        try:
            self._socket = socket.socket(family, socket.SOCK_RAW, PROTOCOLS[self._version])
        except PermissionError:
            raise HostNotReadyError(
                "sending ICMP needs root or CAP_NET_RAW", hint="run the same command with sudo"
            ) from None
        try:
            self._socket.setsockopt(*_MTU_DISCOVER[self._version], _DO)
            self._socket.bind((source, 0))
            self._socket.connect((target, 0))  # so only packets of that host are received
        except OSError as error:
            self._socket.close()
            message = f"can't send from {source} to {target}: {error.strerror}"
            raise HostNotReadyError(message) from None
        return self

    def __exit__(self, *_: object) -> None:
        """Close the socket."""
        self._socket.close()

    def several(self, number: int, payload: int) -> Answers:
        """Send `number` requests of `payload` bytes of ICMP, and wait for the last answers."""
        sent = answered = 0
        for _ in range(number):
            sent += self._send(payload)
            answered += self._collect(INTERVAL)
        answered += self._collect(PATIENCE, hasty=True)
        return Answers(sent=sent, answered=answered, error=self._error)

    def passes(self, payload: int) -> bool:
        """Return whether requests of `payload` bytes of ICMP are answered.

        Two have to be: the kernel may send one too large packet, its ESP in fragments, before it
        learns the path MTU.
        """
        return all(self._is_answered(payload) for _ in range(2))

    def _is_answered(self, payload: int) -> bool:
        patience = min(PATIENCE, max(0.2, 4 * self._slowest))
        for _ in range(2):  # one may be lost
            self._waiting.clear()
            if self._send(payload) and self._collect(patience, hasty=True):
                return True
        return False

    def _send(self, payload: int) -> bool:
        """Send a request; return whether the kernel accepted it."""
        number = next(self._numbers) & 0xFFFF
        content = self._token.ljust(payload - icmp.HEADER, b"\0")
        try:
            self._socket.send(icmp.request(self._version, self._id, number, content))
        except OSError as error:
            self._error = error.strerror or ""
            return False
        self._waiting[number] = time.monotonic()
        return True

    def _collect(self, seconds: float, *, hasty: bool = False) -> int:
        """Return how many answers arrive in that time; `hasty` stops when none is missing."""
        end, answered = time.monotonic() + seconds, 0
        while (left := end - time.monotonic()) > 0 and (self._waiting or not hasty):
            self._socket.settimeout(left)
            try:
                packet = self._socket.recv(65535)
            except TimeoutError:
                break
            except OSError as error:  # the kernel reports an ICMP error
                self._error = error.strerror or ""
                continue
            reply = icmp.answered(self._version, packet, self._id, self._token)
            sent_at = self._waiting.pop(reply.sequence, None) if reply else None
            if sent_at is not None:
                self._slowest = max(self._slowest, time.monotonic() - sent_at)
                answered += 1
        return answered
