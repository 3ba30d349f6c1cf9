"""What crosses the switch: every frame, each one once, by class."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from .rooms import LabError, Room, until

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
ETH_P_CANARY = 0x88B5  # IEEE 802: for local experiments
SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 33, 263, 6
CLASSES = ("esp-in-udp", "esp", "ike", "overlay", "other")


@dataclass(frozen=True)
class Tally:
    """How many frames of a class there were, and the longest: bytes after Ethernet's header."""

    frames: int = 0
    largest: int = 0


def classify(frame: bytes, overlay_port: int) -> str:
    """Return what a frame is: one of CLASSES (overlay: in clear text), or canary."""
    kind = int.from_bytes(frame[12:14])
    if kind == ETH_P_IP and not int.from_bytes(frame[20:22]) & 0x1FFF:  # a first or only fragment
        protocol, payload = frame[23], frame[14 + 4 * (frame[14] & 15) :]
    elif kind == ETH_P_IPV6:
        protocol, payload = frame[20], frame[54:]
        if protocol == socket.IPPROTO_FRAGMENT and not int.from_bytes(payload[2:4]) & 0xFFF8:
            protocol, payload = payload[0], payload[8:]
    else:
        return "canary" if kind == ETH_P_CANARY else "other"
    if protocol == socket.IPPROTO_ESP:
        return "esp"
    if protocol == socket.IPPROTO_GRE:
        return "overlay"
    if protocol != socket.IPPROTO_UDP:
        return "other"
    source, target, length = (int.from_bytes(payload[at : at + 2]) for at in (0, 2, 4))
    data = payload[8:length]
    if target == overlay_port:
        return "overlay"
    if 4500 in (source, target):  # RFC 3948: the non-ESP marker, and the NAT keepalive
        return "ike" if data[:4] == bytes(4) or data == b"\xff" else "esp-in-udp"
    return "ike" if 500 in (source, target) else "other"


class Capture:
    """A capture, to be used with `with`: whoever is inside misses no frame."""

    def __init__(self, switch: Room, gateways: Sequence[Room], overlay_port: int) -> None:
        self._switch = switch
        self._gateways = gateways
        self._port = overlay_port
        self._canaries = itertools.count()
        self.frames: list[bytes] = []

    def __enter__(self) -> Self:
        self._socket = self._switch.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.settimeout(0.1)
        self._running = True
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        try:
            self._prove()
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        try:
            self._prove()
        finally:
            self._stop()

    def _stop(self) -> None:
        self._running = False
        self._reader.join()
        self._socket.close()

    def summary(self) -> dict[str, Tally]:
        """Return a tally for each class, up to now."""
        if self._running:
            self._prove()
        lengths: dict[str, list[int]] = {name: [] for name in CLASSES}
        for frame in self.frames:
            name = classify(frame, self._port)
            if name in lengths:
                lengths[name].append(len(frame) - 14)
        return {name: Tally(len(all_), max(all_, default=0)) for name, all_ in lengths.items()}

    def _read(self) -> None:
        while self._running:
            try:
                frame, (interface, _, kind, *_) = self._socket.recvfrom(65535)
            except TimeoutError:
                continue
            # A frame goes in by a port or, from the switch itself, out of the bridge; then out by
            # another port, where it isn't counted again.
            if (interface == "br0") == (kind == socket.PACKET_OUTGOING):
                self.frames.append(frame)

    def _prove(self) -> None:
        """Wait for a new frame of each gateway: all before it is here, and nothing was dropped."""
        canary = b"canary %d" % next(self._canaries)
        for gateway in self._gateways:
            with gateway.socket() as wire:
                wire.bind(("eth0", ETH_P_CANARY))
                source = wire.getsockname()[4]
                wire.send(b"\xff" * 6 + source + ETH_P_CANARY.to_bytes(2) + canary)
        until(
            lambda: sum(f.endswith(canary) for f in self.frames) == len(self._gateways),
            "a canary of each gateway in the capture",
        )
        _, dropped = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if dropped:
            raise LabError(f"the capture lost {dropped} frames")
