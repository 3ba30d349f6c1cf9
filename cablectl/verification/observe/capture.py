"""A capture of what a device sends and receives, by a packet socket (packet(7)): no tcpdump."""

import socket
import struct
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Self

from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.verification.frames import ENOUGH, Captured

# Not in Python's socket module: linux/if_packet.h, asm-generic/socket.h, linux/if_ether.h.
_SOL_PACKET, _PACKET_STATISTICS, _PACKET_OTHERHOST = 263, 6, 3
_SO_RCVBUFFORCE, _SO_TIMESTAMPNS = 33, 35
_ETH_P_ALL = 3
_TIMESPEC = "ll"
_CONTROL = socket.CMSG_SPACE(struct.calcsize(_TIMESPEC))
_BUFFER = 64 << 20  # bytes: tens of thousands of frames
_TICK = 0.1  # seconds


class Capture:
    """A capture, to be used with `with`: whoever is inside misses no frame.

    Afterwards `captured` has the frames, without the link's header, and `lost` says how many more
    there were.
    """

    def __init__(self, device: str) -> None:
        self._device = device
        self.captured: list[Captured] = []
        self.lost = 0

    def __enter__(self) -> Self:
        """HostNotReadyError without the right to it, or without the device."""
        try:
            self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
        except PermissionError:
            raise HostNotReadyError(
                "a capture isn't allowed here", hint="it takes root, or CAP_NET_RAW"
            ) from None
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            self._socket.settimeout(_TICK)
            self._socket.bind((self._device, _ETH_P_ALL))  # it begins here
        except OSError as error:
            self._socket.close()
            raise HostNotReadyError(f"no capture on {self._device}: {error.strerror}") from None
        self._end: int | None = None
        self._pool = ThreadPoolExecutor(1)
        self._reading = self._pool.submit(self._read)
        return self

    def __exit__(self, *_: object) -> None:
        """Read what has come until now; CablectlError if the device went meanwhile."""
        self._end = time.time_ns()
        with self._socket, self._pool:
            try:
                self._reading.result()
            except OSError as error:
                raise CablectlError(
                    f"the capture on {self._device} ended early: {error.strerror}"
                ) from None
            told = self._socket.getsockopt(_SOL_PACKET, _PACKET_STATISTICS, 8)
        _, self.lost = struct.unpack("II", told)

    def _read(self) -> None:
        """Read until nothing is left, or what comes is later than the end."""
        while True:
            end = self._end  # as it is now: what comes before it is set has to be waited for
            try:
                data, told, _, address = self._socket.recvmsg(ENOUGH, _CONTROL)
            except TimeoutError:
                if end:
                    return
                continue
            seconds, rest = struct.unpack(_TIMESPEC, told[0][2])
            stamp, kind = seconds * 1_000_000_000 + rest, address[2]
            if end and stamp > end:
                return
            if kind != _PACKET_OTHERHOST:
                self.captured.append(Captured(kind == socket.PACKET_OUTGOING, stamp, data))
