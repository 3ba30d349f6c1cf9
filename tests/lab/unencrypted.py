"""A socket filter that keeps ESP in UDP out of a capture: reading it takes most of the time."""

from __future__ import annotations

import ctypes
import socket
import struct
from collections.abc import Iterator

SO_ATTACH_FILTER = 26
# linux/bpf_common.h: load a byte, 2 or 4 bytes at an offset; jump if equal, if any of these bits is
# set, if at least; return how many bytes of the frame to keep.
_LDB, _LDH, _LDW, _JEQ, _JSET, _JGE, _RET = 0x30, 0x28, 0x20, 0x15, 0x45, 0x35, 0x06
_NEXT, _KEEP, _DROP, _IPV6 = 0, "keep", "drop", "ipv6"
# Code, value, and where to go if true and if false: a label, or how many lines to skip.
Line = tuple[int, int, int | str, int | str]


def attach(to: socket.socket) -> None:
    """Drop ESP in UDP before the socket: port 4500, and no marker of IKE (RFC 3948)."""
    program = b"".join(_instructions())
    buffer = ctypes.create_string_buffer(program)
    given = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
    to.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, given)


def _instructions() -> Iterator[bytes]:
    ipv4: list[Line] = [
        (_LDH, 12, _NEXT, _NEXT),
        (_JEQ, 0x0800, _NEXT, _IPV6),
        (_LDH, 20, _NEXT, _NEXT),
        (_JSET, 0x1FFF, _KEEP, _NEXT),  # not a first fragment
        (_LDB, 14, _NEXT, _NEXT),
        (_JEQ, 0x45, _NEXT, _KEEP),  # with options
        *_protected(protocol=23, udp=34),
    ]
    ipv6: list[Line] = [
        (_LDH, 12, _NEXT, _NEXT),
        (_JEQ, 0x86DD, _NEXT, _KEEP),
        *_protected(protocol=20, udp=54),
    ]
    lines = [*ipv4, *ipv6]
    places = {_IPV6: len(ipv4), _KEEP: len(lines), _DROP: len(lines) + 1}
    for here, (code, value, *targets) in enumerate(lines):
        jumps = (it if isinstance(it, int) else places[it] - here - 1 for it in targets)
        yield struct.pack("@HBBI", code, *jumps, value)
    for size in (0xFFFF, 0):
        yield struct.pack("@HBBI", _RET, 0, 0, size)


def _protected(protocol: int, udp: int) -> list[Line]:
    """Return the lines that drop ESP in UDP, by the offsets of the IP header's field and of UDP."""
    return [
        (_LDB, protocol, _NEXT, _NEXT),
        (_JEQ, socket.IPPROTO_UDP, _NEXT, _KEEP),
        (_LDH, udp, _NEXT, _NEXT),
        (_JEQ, 4500, 2, _NEXT),
        (_LDH, udp + 2, _NEXT, _NEXT),
        (_JEQ, 4500, _NEXT, _KEEP),
        (_LDH, udp + 4, _NEXT, _NEXT),
        (_JGE, 12, _NEXT, _KEEP),  # a NAT keepalive
        (_LDW, udp + 8, _NEXT, _NEXT),
        (_JEQ, 0, _KEEP, _DROP),
    ]
