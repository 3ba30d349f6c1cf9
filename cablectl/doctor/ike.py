"""Builds an IKE_SA_INIT request (RFC 7296, section 1.2) and reads the answer.

An answer shows that a port speaks IKE; the negotiation doesn't continue. The public value is no
secret, and the half-open IKE SA at the responder expires by itself.
"""

import struct
from collections.abc import Iterator, Sequence

SPI_SIZE, NONCE_SIZE = 8, 32  # bytes
IKE_PORT = 500  # on other ports a marker distinguishes IKE from ESP (RFC 3948, section 2.2)
_NON_ESP_MARKER = bytes(4)

_HEADER = struct.Struct("!8s8sBBBBII")  # section 3.1
_PAYLOAD = struct.Struct("!BBH")  # the generic payload header, section 3.2
_VERSION, _IKE_SA_INIT, _INITIATOR, _RESPONSE = 0x20, 34, 0x08, 0x20
_SA, _KE, _NONCE, _NOTIFY = 33, 34, 40, 41

_ENCR, _PRF, _INTEG, _DH = 1, 2, 3, 4
_MODP2048, _MODP2048_SIZE = 14, 256  # bytes; RFC 3526, section 3
# An element of the group: the generator, 2, to a power that isn't secret.
_PUBLIC_VALUE = (1 << 2040).to_bytes(_MODP2048_SIZE)
_KEY_LENGTH = 0x800E  # section 3.3.5
Transform = tuple[int, int, int]  # type, ID (section 3.3.2), length of the key in bits or 0
_PRFS: tuple[Transform, ...] = ((_PRF, 7, 0), (_PRF, 5, 0), (_PRF, 2, 0))  # SHA2-512, -256, SHA1
_PROPOSALS: tuple[tuple[Transform, ...], ...] = (
    ((_ENCR, 20, 256), (_ENCR, 20, 128), *_PRFS, (_DH, _MODP2048, 0)),  # AES-GCM
    (
        *((_ENCR, 12, 256), (_ENCR, 12, 128)),  # AES-CBC
        *_PRFS,
        *((_INTEG, 14, 0), (_INTEG, 12, 0), (_INTEG, 2, 0)),  # SHA2-512, -256, SHA1
        (_DH, _MODP2048, 0),
    ),
)

SA = "SA"
# Section 3.10.1: errors, and notifications that ask for a different request.
_NOTIFICATIONS = {
    1: "UNSUPPORTED_CRITICAL_PAYLOAD",
    4: "INVALID_IKE_SPI",
    5: "INVALID_MAJOR_VERSION",
    7: "INVALID_SYNTAX",
    9: "INVALID_MESSAGE_ID",
    14: "NO_PROPOSAL_CHOSEN",
    17: "INVALID_KE_PAYLOAD",
    16390: "COOKIE",
    16407: "REDIRECT",  # RFC 5685, section 10
}
_STATUS = 16384  # smaller types are errors


def request(port: int, spi: bytes, nonce: bytes) -> bytes:
    """Return the request datagram to `port`; `spi` and `nonce` have to be random."""
    chain = (
        (_SA, _proposals()),
        (_KE, struct.pack("!HH", _MODP2048, 0) + _PUBLIC_VALUE),
        (_NONCE, nonce),
    )
    following = [kind for kind, _ in chain[1:]] + [0]
    payloads = b"".join(
        _PAYLOAD.pack(next_kind, 0, _PAYLOAD.size + len(body)) + body
        for (_, body), next_kind in zip(chain, following, strict=True)
    )
    length = _HEADER.size + len(payloads)
    header = _HEADER.pack(spi, bytes(8), _SA, _VERSION, _IKE_SA_INIT, _INITIATOR, 0, length)
    return _marker(port) + header + payloads


def answer(datagram: bytes, port: int, spi: bytes) -> str | None:
    """Return the answer in a datagram from `port` to the request with that SPI.

    "SA" if the peer would continue, else the name of its notification; None if the datagram isn't
    an answer to the request.
    """
    marker = _marker(port)
    message = datagram.removeprefix(marker)
    if not datagram.startswith(marker) or len(message) < _HEADER.size:
        return None
    initiator, _, first, _, exchange, flags, _, length = _HEADER.unpack_from(message)
    if initiator != spi or exchange != _IKE_SA_INIT or not flags & _RESPONSE:
        return None
    payloads = dict(_payloads(first, message[_HEADER.size : length]))
    notify = payloads.get(_NOTIFY, b"")
    kind = int.from_bytes(notify[2:4]) if len(notify) >= 4 else 0
    if _SA in payloads:
        return SA
    return _NOTIFICATIONS.get(kind, f"notification {kind}" if kind else "something else")


def _marker(port: int) -> bytes:
    return b"" if port == IKE_PORT else _NON_ESP_MARKER


def _payloads(kind: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and body of each payload, without notifications that are only a status."""
    while kind and len(data) >= _PAYLOAD.size:
        following, _, length = _PAYLOAD.unpack_from(data)
        if length < _PAYLOAD.size:
            return
        body = data[_PAYLOAD.size : length]
        if kind != _NOTIFY or _matters(int.from_bytes(body[2:4])):
            yield kind, body
        kind, data = following, data[length:]


def _matters(notification: int) -> bool:
    return notification < _STATUS or notification in _NOTIFICATIONS


def _proposals() -> bytes:
    bodies = []
    for number, transforms in enumerate(_PROPOSALS, start=1):
        body = _sequence([_transform(transform) for transform in transforms], more=3)
        # Protocol 1 is IKE; its proposal has no SPI here (section 3.3.1).
        bodies.append(struct.pack("!BBBB", number, 1, 0, len(transforms)) + body)
    return _sequence(bodies, more=2)


def _transform(transform: Transform) -> bytes:
    kind, number, bits = transform
    attribute = struct.pack("!HH", _KEY_LENGTH, bits) if bits else b""
    return struct.pack("!BBH", kind, 0, number) + attribute


def _sequence(bodies: Sequence[bytes], more: int) -> bytes:
    """Return substructures with their headers, whose first byte is `more`, or 0 for the last."""
    first_bytes = [more] * (len(bodies) - 1) + [0]
    return b"".join(
        _PAYLOAD.pack(first_byte, 0, _PAYLOAD.size + len(body)) + body
        for first_byte, body in zip(first_bytes, bodies, strict=True)
    )
