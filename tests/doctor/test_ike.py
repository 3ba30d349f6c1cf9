"""IKE_SA_INIT as bytes: the request taken apart again, and answers as they come, whole or not."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cablectl.doctor import ike
from tests.support.ike import NONCE, NOTIFY, SA, SPI, message

# What Libreswan 4.10 answered where nothing is loaded, but for the SPI.
REFUSED = SPI + bytes.fromhex("0000000000000000 29 20 22 20 00000000 00000024 00000008 0000000e")


def notify(kind: int) -> tuple[int, bytes]:
    return NOTIFY, struct.pack("!BBH", 0, 0, kind)


class TestRequest:
    def test_at_500_it_is_bare_and_elsewhere_marked(self) -> None:
        bare = ike.request(500, SPI, NONCE)
        assert bare.startswith(SPI)
        assert ike.request(4500, SPI, NONCE) == bytes(4) + bare

    def test_its_payloads(self) -> None:
        """RFC 7296, sections 3.1 to 3.9: SA, KE of group 14, a nonce, and nothing more."""
        request = ike.request(500, SPI, NONCE)
        _, responder, first, version, exchange, flags, number, length = struct.unpack_from(
            "!8s8sBBBBII", request
        )
        assert (responder, version, exchange, flags, number) == (bytes(8), 0x20, 34, 0x08, 0)
        assert length == len(request)
        payloads, at = {}, 28
        while first:
            following, _, size = struct.unpack_from("!BBH", request, at)
            payloads[first] = request[at + 4 : at + size]
            first, at = following, at + size
        assert (list(payloads), at) == ([33, 34, 40], len(request))
        group, reserved = struct.unpack_from("!HH", payloads[34])
        value = int.from_bytes(payloads[34][4:])
        assert (group, reserved, len(payloads[34])) == (14, 0, 4 + 256)
        assert 1 < value < 2**2047  # less than the group's prime
        assert payloads[40] == NONCE

    def test_its_proposals(self) -> None:
        """AES-GCM, which has no integrity of its own, then AES-CBC, which has."""
        body = ike.request(500, SPI, NONCE)[32:]
        found = {}
        more, at = 2, 0
        while more:
            more, _, size, number, protocol, spi, count = struct.unpack_from("!BBHBBBB", body, at)
            assert (protocol, spi) == (1, 0)
            kinds, inside, end = [], at + 8, at + size
            while inside < end:
                last, _, length, kind, _, transform = struct.unpack_from("!BBHBBH", body, inside)
                assert (last == 3) == (inside + length < end)
                kinds.append((kind, transform))
                inside += length
            assert len(kinds) == count
            found[number], at = kinds, end
        assert {kind for kind, _ in found[1]} == {1, 2, 4}
        assert {kind for kind, _ in found[2]} == {1, 2, 3, 4}
        assert all((4, 14) in kinds for kinds in found.values())


class TestAnswer:
    @pytest.mark.parametrize(
        ("payloads", "told"),
        [
            ([(SA, b"x" * 40)], "SA"),
            ([(SA, b"x" * 40), notify(16388), notify(16404)], "SA"),  # NAT detection, and others
            ([notify(14)], "NO_PROPOSAL_CHOSEN"),
            ([notify(17)], "INVALID_KE_PAYLOAD"),
            ([notify(16388), notify(16390)], "COOKIE"),
            ([notify(16390), notify(16388)], "COOKIE"),
            ([notify(99)], "notification 99"),
            ([notify(16388)], "something else"),
            ([], "something else"),
        ],
    )
    def test_what_it_says(self, payloads: list[tuple[int, bytes]], told: str) -> None:
        assert ike.answer(message(*payloads), 500, SPI) == told
        assert ike.answer(bytes(4) + message(*payloads), 4500, SPI) == told

    def test_of_a_real_pluto(self) -> None:
        assert ike.answer(REFUSED, 500, SPI) == "NO_PROPOSAL_CHOSEN"

    @pytest.mark.parametrize(
        "datagram",
        [
            b"",
            b"\xff",  # what keeps a NAT awake, RFC 3948, section 2.3
            REFUSED[:27],
            message(notify(14), flags=0x08),  # a request
            message(notify(14), exchange=35),
            REFUSED.replace(SPI, b"somebody"),
            bytes(4) + REFUSED,  # marked, which it isn't at 500
        ],
    )
    def test_what_is_none(self, datagram: bytes) -> None:
        assert ike.answer(datagram, 500, SPI) is None

    @given(st.binary(max_size=80), st.integers(0, 80))
    def test_whatever_comes_it_ends(self, noise: bytes, cut: int) -> None:
        for datagram in (noise, REFUSED[:cut] + noise, message((SA, noise))[:cut]):
            ike.answer(datagram, 500, SPI)
