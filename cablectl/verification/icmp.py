"""Echo requests and their answers as bytes (RFC 792, RFC 4443, section 4)."""

import struct

HEADER = 8  # bytes
_REQUEST = {4: 8, 6: 128}
_REPLY = {4: 0, 6: 129}


def request(version: int, identifier: int, sequence: int, payload: bytes) -> bytes:
    """Return an echo request; that of IPv6 without its checksum, which the kernel makes."""
    kind = _REQUEST[version]
    ends = struct.pack("!HH", identifier, sequence) + payload
    blank = struct.pack("!BBH", kind, 0, 0) + ends
    return blank if version == 6 else struct.pack("!BBH", kind, 0, _checksum(blank)) + ends


def answered(version: int, packet: bytes, identifier: int, token: bytes) -> int | None:
    """Return the sequence number of the request that a packet answers; None if it answers none.

    It is as a raw socket gives it, with IPv4's header and without IPv6's; the payload of our own
    begins with `token`.
    """
    message = packet[4 * (packet[0] & 15) :] if version == 4 and packet else packet
    if len(message) < HEADER or message[0] != _REPLY[version]:
        return None
    ours = int.from_bytes(message[4:6]) == identifier and message[HEADER:].startswith(token)
    return int.from_bytes(message[6:8]) if ours else None


def _checksum(message: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    even = message + b"\0" * (len(message) % 2)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF
