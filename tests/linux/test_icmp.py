"""Echo requests and answers, byte for byte."""

import struct

from hypothesis import given
from hypothesis import strategies as st

from cablectl.linux import icmp

TOKEN = b"12345678"
IPV4 = bytes([0x46]) + bytes(23)  # a header with one option
# RFC 1071, section 3: of these bytes the sum is 0xddf2.
ODDS = bytes.fromhex("0001f203f4f5f6f7")


def reply(version: int, identifier: int = 7, sequence: int = 3, token: bytes = TOKEN) -> bytes:
    kind, header = (0, IPV4) if version == 4 else (129, b"")
    return header + struct.pack("!BBHHH", kind, 0, 0, identifier, sequence) + token + b"more"


def test_the_checksum_is_that_of_the_rfc() -> None:
    assert icmp._checksum(ODDS) == 0xDDF2 ^ 0xFFFF


@given(st.binary(max_size=100), st.integers(0, 0xFFFF), st.integers(0, 0xFFFF))
def test_a_request_sums_up_to_nothing(payload: bytes, identifier: int, sequence: int) -> None:
    packet = icmp.request(4, identifier, sequence, payload)
    assert packet[0] == 8
    assert icmp._checksum(packet) == 0
    assert icmp.request(6, identifier, sequence, payload)[:4] == b"\x80\0\0\0"  # the kernel's turn


def test_an_answer_names_its_request() -> None:
    for version in (4, 6):
        assert icmp.answered(version, reply(version), 7, TOKEN) == (3, b"more")


def test_what_answers_nothing_of_ours() -> None:
    for version in (4, 6):
        for other in (
            reply(version, identifier=8),
            reply(version, token=b"somebody"),
            reply(version)[:-8],
            reply(10 - version),
            icmp.request(version, 7, 3, TOKEN),
            b"",
        ):
            assert icmp.answered(version, other, 7, TOKEN) is None


@given(st.binary(max_size=80))
def test_nothing_is_too_strange(packet: bytes) -> None:
    assert icmp.answered(4, packet, 7, TOKEN) is None
    assert icmp.answered(6, packet, 7, TOKEN) is None
