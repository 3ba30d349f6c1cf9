"""A capture of the switch: each frame once, counted by class."""

from __future__ import annotations

import itertools
import socket
import struct
import threading
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Self

from . import unencrypted
from .rooms import LabError, Room, until

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
ETH_P_CANARY = 0x88B5  # IEEE 802: for local experiments
SO_RCVBUFFORCE, SOL_PACKET, PACKET_STATISTICS = 33, 263, 6
CLASSES = ("esp-in-udp", "esp", "ike", "overlay", "other")


@dataclass(frozen=True)
class Tally:
    """Number of frames of a class, and the longest frame in bytes without the Ethernet header."""

    frames: int = 0
    largest: int = 0


def classify(frame: bytes, overlay_port: int) -> str:
    """Return a frame's class: one of CLASSES ("overlay" is in clear text), or canary."""
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
    if protocol in (socket.IPPROTO_GRE, socket.IPPROTO_IPIP, socket.IPPROTO_IPV6):
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
    """A capture as a context manager: no frame is missed from the first line inside to the last.

    Without `esp_in_udp`, it has all frames but these: a stream of minutes has millions of them.
    """

    def __init__(
        self,
        switch: Room,
        gateways: Sequence[Room],
        overlay_port: int,
        *,
        esp_in_udp: bool = True,
    ) -> None:
        self._switch = switch
        self._gateways = gateways
        self._port = overlay_port
        self._esp_in_udp = esp_in_udp
        self._canaries = itertools.count()
        self.frames: list[bytes] = []

    def __enter__(self) -> Self:
        self._socket = self._switch.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 64 << 20)
        self._socket.settimeout(0.1)
        if not self._esp_in_udp:
            unencrypted.attach(self._socket)
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
        """Return the tally of each class of CLASSES, for all frames until now."""
        if self._running:
            self._prove()
        lengths: dict[str, list[int]] = {name: [] for name in CLASSES}
        for frame in self.frames:
            name = classify(frame, self._port)
            if name in lengths:
                lengths[name].append(len(frame) - 14)
        return {
            name: Tally(len(of_class), max(of_class, default=0))
            for name, of_class in lengths.items()
        }

    def _read(self) -> None:
        while self._running:
            try:
                frame, (interface, _, kind, *_) = self._socket.recvfrom(65535)
            except TimeoutError:
                continue
            # A frame enters the switch by a port, or leaves br0 if the switch itself sends it. It
            # then leaves by another port, where it must not be counted again.
            if (interface == "br0") == (kind == socket.PACKET_OUTGOING):
                self.frames.append(frame)

    def _prove(self) -> None:
        """Send a canary from each gateway and wait for it, so all earlier frames are captured.

        LabError if a canary doesn't arrive, or the kernel dropped a frame.
        """
        canary = b"canary %d" % next(self._canaries)
        with ExitStack() as stack:
            wires = {}
            for gateway in self._gateways:
                wire = stack.enter_context(gateway.socket())
                wire.bind(("eth0", ETH_P_CANARY))
                wires[wire.getsockname()[4]] = wire

            def all_arrive() -> bool:
                """Send again what is missing: a port of the switch that has just come up drops."""
                seen = {frame[6:12] for frame in self.frames if frame.endswith(canary)}
                for source in wires.keys() - seen:
                    frame = b"\xff" * 6 + source + ETH_P_CANARY.to_bytes(2) + canary
                    wires[source].send(frame)
                return wires.keys() <= seen

            until(all_arrive, "a canary of each gateway in the capture")
        _, dropped = struct.unpack("II", self._socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8))
        if dropped:
            raise LabError(f"the capture lost {dropped} frames")
