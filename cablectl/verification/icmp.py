"""Echo requests and replies as bytes (RFC 792; RFC 4443, section 4)."""

import struct

HEADER = 8  # bytes
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}


def request(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """Return an echo request; for IPv6 without the checksum, which the kernel adds."""
    kind = _REQUEST[version]
    rest = struct.pack("!HH", identifier, sequence) + payload
    without_checksum = struct.pack("!BBH", kind, 0, 0) + rest
    if version == 6:
        return without_checksum
    return struct.pack("!BBH", kind, 0, _checksum(without_checksum)) + rest


def answered(version: int, packet: bytes, identifier: int, token: bytes) -> int | None:
    """Return the sequence number of the request that a packet answers; None if it answers none.

    A raw socket delivers the packet with its IPv4 header, but without its IPv6 header.
    The payload of our requests begins with `token`.
    """
    message = packet[4 * (packet[0] & 15) :] if version == 4 and packet else packet
    if len(message) < HEADER or message[0] != _REPLY[version]:
        return None
    is_ours = int.from_bytes(message[4:6]) == identifier and message[HEADER:].startswith(token)
    return int.from_bytes(message[6:8]) if is_ours else None


def _checksum(message: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    padded = message + b"\0" * (len(message) % 2)
    total: int = sum(struct.unpack(f"!{len(padded) // 2}H", padded))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
