"""Messages of IKE, as bytes."""

import struct

SPI, NONCE = b"12345678", bytes(range(32))
SA, NOTIFY = 33, 41


def message(*payloads: tuple[int, bytes], exchange: int = 34, flags: int = 0x20) -> bytes:
    """Return a message with these payloads."""
    kinds = [*(kind for kind, _ in payloads), 0]
    bodies = b"".join(
        struct.pack("!BBH", after, 0, 4 + len(body)) + body
        for (_, body), after in zip(payloads, kinds[1:], strict=True)
    )
    head = struct.pack("!8s8sBBBBII", SPI, b"r" * 8, kinds[0], 0x20, exchange, flags, 0, 28)
    return head[:-4] + (28 + len(bodies)).to_bytes(4) + bodies
