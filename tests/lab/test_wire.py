from __future__ import annotations

import socket
import struct

import pytest

from . import unencrypted
from .wire import classify

ESP, KEEPALIVE, MARKER = b"\x12\x34\x56\x78esp", b"\xff", bytes(4)


def ipv4(protocol: int, payload: bytes, offset: int = 0) -> bytes:
    header = struct.pack("!BxHxxHxBxx8x", 0x45, 20 + len(payload), offset, protocol)
    return bytes(12) + b"\x08\x00" + header + payload


def ipv6(protocol: int, payload: bytes) -> bytes:
    return bytes(12) + b"\x86\xdd" + struct.pack("!4xHBx32x", len(payload), protocol) + payload


def udp(source: int, target: int, data: bytes = b"data") -> bytes:
    return struct.pack("!HHHxx", source, target, 8 + len(data)) + data


FRAMES = [
    (ipv4(50, ESP), "esp"),
    (ipv6(50, ESP), "esp"),
    (ipv4(17, udp(4500, 4500, ESP)), "esp-in-udp"),
    (ipv6(17, udp(40000, 4500, ESP)), "esp-in-udp"),
    (ipv4(17, udp(4500, 40000, ESP)), "esp-in-udp"),
    (ipv4(17, udp(4500, 4500, MARKER + b"ike")), "ike"),
    (ipv4(17, udp(4500, 4500, KEEPALIVE)), "ike"),
    (ipv4(17, udp(4500, 4500, KEEPALIVE) + bytes(17)), "ike"),  # padded to Ethernet's minimum
    (ipv4(17, udp(500, 500)), "ike"),
    (ipv4(17, udp(50000, 4789)), "overlay"),
    (ipv6(17, udp(50000, 4789)), "overlay"),
    (ipv6(44, b"\x11\x00\x00\x01iden" + udp(50000, 4789)), "overlay"),  # a first fragment
    (ipv6(44, b"\x11\x00\x00\x09iden" + udp(50000, 4789)), "other"),
    (ipv4(17, udp(4789, 50000)), "other"),
    (ipv4(47, b"gre"), "overlay"),
    (ipv4(4, bytes(20)), "overlay"),
    (ipv6(41, bytes(40)), "overlay"),
    (ipv4(17, udp(50000, 4789), offset=185), "other"),  # not a first fragment: no ports
    (ipv4(6, bytes(20)), "other"),
    (bytes(12) + b"\x08\x06" + bytes(28), "other"),
]


@pytest.mark.parametrize(("frame", "kind"), FRAMES)
def test_a_frame_is_classified_by_its_headers(frame: bytes, kind: str) -> None:
    assert classify(frame, overlay_port=4789) == kind


@pytest.mark.parametrize(("frame", "kind"), FRAMES)
def test_a_capture_has_every_frame_but_esp_in_udp(frame: bytes, kind: str) -> None:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        unencrypted.attach(receiver)
        receiver.setblocking(False)
        sender.send(frame)
        try:
            received = receiver.recv(2048)
        except BlockingIOError:
            received = b""
        assert received == (b"" if kind == "esp-in-udp" else frame)
