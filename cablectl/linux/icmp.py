"""Echo requests and replies as bytes (RFC 792; RFC 4443, section 4)."""

import struct
from typing import NamedTuple

from cablectl.linux import bpf

HEADER = 8  # bytes
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}
_WHOLE = 0xFFFF  # bytes of a packet that a filter lets pass


class Reply(NamedTuple):
    """The sequence number of an answered request, and its payload behind the token."""

    sequence: int
    payload: bytes


def request(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """Return an echo request; for IPv6 without the checksum, which the kernel adds."""
    kind = _REQUEST[version]
    rest = struct.pack("!HH", identifier, sequence) + payload
    without_checksum = struct.pack("!BBH", kind, 0, 0) + rest
    if version == 6:
        return without_checksum
    return struct.pack("!BBH", kind, 0, _checksum(without_checksum)) + rest


def answered(version: int, packet: bytes, identifier: int, token: bytes) -> Reply | None:
    """Return what a packet says of the request that it answers; None if it answers none.

    A raw socket delivers the packet with its IPv4 header, but without its IPv6 header.
    The payload of our requests begins with `token`.
    """
    message = packet[4 * (packet[0] & 15) :] if version == 4 and packet else packet
    if len(message) < HEADER or message[0] != _REPLY[version]:
        return None
    if int.from_bytes(message[4:6]) != identifier or not message[HEADER:].startswith(token):
        return None
    return Reply(int.from_bytes(message[6:8]), message[HEADER + len(token) :])


def only_replies(version: int, identifier: int) -> bytes:
    """Return the filter of a raw socket that lets only replies with that identifier pass."""
    load = bpf.LOAD_AFTER_HEADER if version == 4 else bpf.LOAD
    return b"".join(
        (
            bpf.instruction(bpf.HEADER_TO_X, 0),  # of no use for IPv6, whose header isn't there
            bpf.instruction(load | bpf.SIZES[1], 0),
            bpf.instruction(bpf.JUMP_IF_EQUAL, _REPLY[version], 0, 3),
            bpf.instruction(load | bpf.SIZES[2], 4),
            bpf.instruction(bpf.JUMP_IF_EQUAL, identifier, 0, 1),
            bpf.instruction(bpf.RETURN, _WHOLE),
            bpf.instruction(bpf.RETURN, 0),
        )
    )


def _checksum(message: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = message + b"\0" * (len(message) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
