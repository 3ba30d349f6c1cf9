"""Captures the packets of a device with a packet socket (packet(7)), without tcpdump."""

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.verification.frames import ENOUGH, Captured

# Python's socket module lacks these: linux/if_packet.h, asm-generic/socket.h, linux/if_ether.h.
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_OTHERHOST = 263, 6, 3
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_ETH_P_ALL = 3
_TIMESPEC = "ll"
_CONTROL = socket.CMSG_SPACE(struct.calcsize(_TIMESPEC))
_BUFFER = 64 << 20  # bytes; holds tens of thousands of frames
_TICK = 0.1  # seconds


class Capture:
    """A capture as a context manager: it records every frame of the `with` block.

    Afterwards `captured` has the frames without link header; `lost` counts the missing ones.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.captured: list[Captured] = []
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
                self.captured.append(Captured(kind == socket.PACKET_OUTGOING, stamp, data))
