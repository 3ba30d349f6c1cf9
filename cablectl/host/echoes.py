"""Sends echo requests to many targets without ever waiting, and reads the answers.

A raw socket needs CAP_NET_RAW, on every host. A ping socket (icmp(7)) needs no privilege, but only
where net.ipv4.ping_group_range allows it: the kernel's default, which Debian 12 keeps, allows
nobody. A filter in the kernel keeps answers to other programs from the socket.
"""

import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, suppress
from ipaddress import ip_address
from typing import NamedTuple, Self

from cablectl.errors import HostNotReadyError
from cablectl.host.socket_filter import attach
from cablectl.linux import icmp
from cablectl.model.wishes import AnyAddress

# linux/in.h, linux/in6.h, asm-generic/socket.h
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
PROTOCOLS = {4: socket.IPPROTO_ICMP, 6: socket.IPPROTO_ICMPV6}
IP_PKTINFO, IPV6_PKTINFO = 8, 50
_SO_TIMESTAMPNS = 35
_SO_RCVBUFFORCE = 33
_BUFFER = 4 << 20  # bytes, for the answers of some thousand targets at once
_TIMESPEC = struct.Struct("@ll")
_CONTROL = socket.CMSG_SPACE(_TIMESPEC.size)
_SENT_AT = struct.Struct("!d")  # seconds; the payload behind the token
_LARGEST = 256  # bytes; an answer has at most 84, with the longest header of IPv4


class Answer(NamedTuple):
    """The answer to an echo: whose it is, its sequence number, and the RTT in seconds."""

    target: AnyAddress
    sequence: int
    rtt: float


class Echoes:
    """A raw socket for each version of IP, as a context manager."""

    def __init__(self, versions: Iterable[int]) -> None:
        self._versions = frozenset(versions)
        self._id = int.from_bytes(os.urandom(2))
        self._token = os.urandom(8)  # identifies our packets
        self._sockets: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        """Open the sockets; HostNotReadyError without the privilege, or without IPv6."""
        with ExitStack() as opened:
            for version in self._versions:
                self._sockets[version] = opened.enter_context(self._opened(version))
            self._close = opened.pop_all().close
        return self

    def __exit__(self, *_: object) -> None:
        """Close the sockets."""
        self._close()

    def _opened(self, version: int) -> socket.socket:
        kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
        try:
            made = socket.socket(_FAMILIES[version], kind, PROTOCOLS[version])
        except PermissionError:
            raise HostNotReadyError(
                "sending ICMP needs root or CAP_NET_RAW", hint="run the same command with sudo"
            ) from None
        except OSError as error:
            raise HostNotReadyError(f"can't send IPv{version}: {error.strerror}") from None
        attach(made, icmp.only_replies(version, self._id))
        made.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
        with suppress(PermissionError):
            made.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
        return made

    @property
    def filenos(self) -> tuple[int, ...]:
        """The descriptors that become readable when an answer is there, for poll."""
        return tuple(opened.fileno() for opened in self._sockets.values())

    def send(self, source: AnyAddress, target: AnyAddress, sequence: int) -> bool:
        """Send an echo request; tell whether this host can send one.

        It can't if it doesn't hold the source. A request that the kernel drops counts as sent.
        """
        payload = self._token + _SENT_AT.pack(time.monotonic())
        request = icmp.request(target.version, self._id, sequence, payload)
        to, control = (str(target), 0), [leaving(source)]
        try:
            self._sockets[target.version].sendmsg([request], control, 0, to)
        except OSError:  # the number doesn't tell why: a missing route has the same one
            return _holds(source)
        return True

    def receive(self) -> Iterator[Answer]:
        """Yield the answers that have arrived."""
        for version, opened in self._sockets.items():
            while True:
                try:
                    packet, control, _, address = opened.recvmsg(_LARGEST, _CONTROL)
                except OSError:  # nothing is left to read
                    break
                reply = icmp.answered(version, packet, self._id, self._token)
                if reply and len(reply.payload) == _SENT_AT.size:
                    (sent_at,) = _SENT_AT.unpack(reply.payload)
                    # In this order: if the host is busy in between, the RTT isn't too short.
                    now, elapsed = time.time(), time.monotonic() - sent_at
                    rtt = elapsed - _waited(control, now, elapsed)
                    yield Answer(ip_address(address[0]), reply.sequence, rtt)


def leaving(source: AnyAddress, index: int = 0) -> tuple[int, int, bytes]:
    """Return the control message that sends a packet from a source address (ip(7), ipv6(7)).

    With an `index`, the packet leaves by the device that has this number.
    """
    if source.version == 4:  # struct in_pktinfo: the index, the source, and an unused address
        data = struct.pack("@i4s4x", index, source.packed)
        return socket.IPPROTO_IP, IP_PKTINFO, data
    return socket.IPPROTO_IPV6, IPV6_PKTINFO, struct.pack("@16si", source.packed, index)


def _holds(address: AnyAddress) -> bool:
    with socket.socket(_FAMILIES[address.version], socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((str(address), 0))
        except OSError:
            return False
    return True


def _waited(control: list[tuple[int, int, bytes]], now: float, elapsed: float) -> float:
    """Return how long a packet has waited in the socket's buffer, in seconds.

    `now` is in seconds since 1970, as the kernel's stamp. If that clock was set meanwhile, nothing
    is known, and it is 0.
    """
    for _, kind, data in control:
        if kind == _SO_TIMESTAMPNS:
            seconds, nanoseconds = _TIMESPEC.unpack(data)
            waited = now - seconds - nanoseconds / 1e9
            return waited if 0 < waited < elapsed else 0.0
    return 0.0
