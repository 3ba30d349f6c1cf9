"""Captures the packets of a device with a packet socket (packet(7)), without tcpdump."""

import socket
import struct
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.host.socket_filter import attach
from cablectl.verification.frames import ENOUGH

# Python's socket module lacks these: linux/if_packet.h, asm-generic/socket.h, linux/if_ether.h.
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_OTHERHOST = 263, 6, 3
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_ETH_P_ALL = 3
_TIMESPEC = "ll"
_CONTROL = socket.CMSG_SPACE(struct.calcsize(_TIMESPEC))
_BUFFER = 64 << 20  # bytes; holds tens of thousands of frames
_TICK = 0.1  # seconds


class Capture:
    """A capture as a context manager: it passes on every frame of the `with` block.

    `program` is the filter (`packet_filter`), which the kernel runs for each frame. `add` gets each
    frame that passes: whether this host sent it, nanoseconds since 1970, and its first ENOUGH bytes
    without link header. It is called in another thread until the block ends. Afterwards `lost`
    counts the frames that passed the filter, but were lost.
    """

    def __init__(
        self, device: str, program: bytes, add: Callable[[bool, int, bytes], object]
    ) -> None:
        self._device, self._program, self._add = device, program, add
        self.lost = 0

    def __enter__(self) -> Self:
        """Start; HostNotReadyError without the privilege, or without the device."""
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except PermissionError:
            raise HostNotReadyError(
                "a capture needs root or CAP_NET_RAW", hint="run the same command with sudo"
            ) from None
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            attach(self._socket, self._program)
            self._socket.settimeout(_TICK)
            self._socket.bind((self._device, _ETH_P_ALL))  # the capture begins here
        except OSError as error:
            self._socket.close()
            message = f"can't capture on {self._device}: {error.strerror}"
            raise HostNotReadyError(message) from None
        self._end: int | None = None
        self._pool = ThreadPoolExecutor(1)
        self._reading = self._pool.submit(self._read)
        return self

    def __exit__(self, *_: object) -> None:
        """Read the frames up to now; CablectlError if the device was removed meanwhile."""
        self._end = time.time_ns()
        with self._socket, self._pool:
            try:
                self._reading.result()
            except OSError as error:
                raise CablectlError(
                    f"the capture on {self._device} ended early: {error.strerror}"
                ) from None
            statistics = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        _, self.lost = struct.unpack("II", statistics)

    def _read(self) -> None:
        """Read until the end is reached, or no frame is left."""
        while True:
            end = self._end  # read before recvmsg: a timeout counts only if the end was set before
            try:
                data, control, _, address = self._socket.recvmsg(ENOUGH, _CONTROL)
            except TimeoutError:
                if end:
                    return
                continue
            seconds, nanoseconds = struct.unpack(_TIMESPEC, control[0][2])
            stamp, kind = seconds * 1_000_000_000 + nanoseconds, address[2]
            if end and stamp > end:
                return
            if kind != _PACKET_OTHERHOST:
                self._add(kind == socket.PACKET_OUTGOING, stamp, data)
