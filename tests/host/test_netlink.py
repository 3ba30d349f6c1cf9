"""What a socket of netlink reports: whether a message contains a word."""

import socket
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from errno import EBADF, ENOBUFS

import pytest

from cablectl.host import netlink
from cablectl.host.netlink import Changes
from tests.support.documents import meshed, shaped

SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS = 270, 9  # <linux/netlink.h>
Pair = tuple[socket.socket, Changes]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """A sender, and the changes that are received."""
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, closing(Changes(receiver)) as changes:
        yield sender, changes


def test_nothing_has_happened(pair: Pair) -> None:
    assert not pair[1].drain(b"")


@pytest.mark.parametrize(
    ("words", "found"),
    [((b"one\0",), True), ((b"three\0", b"two\0"), True), ((b"on\0",), False), ((), False)],
)
def test_all_messages_are_taken_and_searched(
    pair: Pair, words: tuple[bytes, ...], *, found: bool
) -> None:
    sender, changes = pair
    for message in (b"..one\0..", b"..two\0..", b"..four\0"):
        sender.send(message)
    assert changes.drain(*words) == found
    assert not changes.drain(b"")


def test_a_message_that_was_cut_off_may_contain_any_word(pair: Pair) -> None:
    sender, changes = pair
    sender.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 18)
    sender.send(bytes(1 << 16))
    assert not changes.drain(b"word")
    sender.send(bytes((1 << 16) + 1))
    assert changes.drain(b"word")


class Failing(socket.socket):
    """A socket that fails once, and then has no message."""

    def __init__(self, number: int) -> None:
        super().__init__(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.errors = [OSError(number, ""), BlockingIOError()]

    def recvmsg(self, *_: object) -> tuple[bytes, list[tuple[int, int, bytes]], int, object]:
        raise self.errors.pop(0)


def test_a_lost_message_may_contain_any_word() -> None:
    with closing(Changes(Failing(ENOBUFS))) as changes:
        assert changes.drain(b"word")


def test_any_other_error_is_an_error() -> None:
    with closing(Changes(Failing(EBADF))) as changes, pytest.raises(OSError, match="9"):
        changes.drain(b"word")


ADDRESSES = (b"\xac\x12\x00\x08", b"\xac\x12\x00\x07", b"\x0a\x2d\x00\x00")
DEVICE = (b"vxlan-tunnel", b"\xf1\x12\x00\x08", b"\xf1\x12\x00\x07")


def test_the_words_of_a_cable_are_what_the_kernel_calls_its_parts() -> None:
    words = netlink.words_of([shaped("transport vxlan v4")])
    table = (24141).to_bytes(4, sys.byteorder)
    assert set(words) == {b"cablectl", table, *ADDRESSES, *DEVICE}


def test_without_an_overlay_there_is_no_device() -> None:
    words = netlink.words_of([shaped("tunnel v4")])
    assert set(words).isdisjoint(DEVICE)
    assert {b"cablectl", *ADDRESSES} <= set(words)


def test_cables_share_words_and_no_cable_has_none() -> None:
    words = netlink.words_of(meshed("transport vxlan v4 mesh"))
    assert words.count(b"vxlan-tunnel") == 1
    assert b"\xf1\x12\x00\x06" in words
    assert netlink.words_of([]) == ()


def groups(changes: Changes) -> set[int]:
    """Return the numbers of the groups that a socket has joined."""
    got = changes._socket.getsockopt(SOL_NETLINK, NETLINK_LIST_MEMBERSHIPS, 64)
    bits = int.from_bytes(got, "little")
    return {number for number in range(1, 257) if bits >> (number - 1) & 1}


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (netlink.of_nftables, {7}),
        (netlink.of_addresses, {5, 9}),
        (netlink.of_network, {1, 3, 5, 7, 8, 9, 11, 19}),  # RTNLGRP_LINK to RTNLGRP_IPV6_RULE
        (netlink.of_settings, {24, 25}),
        (netlink.of_ipsec, {3, 4}),  # XFRMNLGRP_SA and XFRMNLGRP_POLICY
    ],
)
def test_each_socket_has_its_groups(make: Callable[[], Changes], expected: set[int]) -> None:
    try:
        changes = make()
    except OSError as error:
        pytest.skip(f"this kernel has no such socket, or wants root: {error}")
    with closing(changes):
        assert groups(changes) == expected


@pytest.mark.parametrize(
    ("family", "device", "found"),
    [
        (socket.AF_INET, "lo", True),
        (socket.AF_INET6, "lo", True),
        (socket.AF_INET, "eth0", False),  # how the kernel finds a peer that is near
        (7, "eth0", True),  # AF_BRIDGE: a forwarding entry
    ],
)
def test_neighbours_of_other_devices_do_not_count(
    monkeypatch: pytest.MonkeyPatch, family: int, device: str, *, found: bool
) -> None:
    monkeypatch.setattr(socket, "if_indextoname", lambda _: device)
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, closing(Changes(receiver, netlink.concerns_network)) as changes:
        peer = bytes((172, 18, 0, 7))
        sender.send(struct.pack("=IHHIIBxHiHBB", 44, 28, 0, 0, 0, family, 0, 3, 2, 0, 1) + peer)
        assert changes.drain(peer, b"lo") == found


@pytest.mark.parametrize(
    ("kind", "found"),
    [
        (28, True),  # XFRM_MSG_FLUSHSA: the message has no address
        (29, True),  # XFRM_MSG_FLUSHPOLICY
        (17, False),  # XFRM_MSG_DELSA: of another program's
    ],
)
def test_a_flush_of_ipsec_concerns_everybody(kind: int, *, found: bool) -> None:
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, closing(Changes(receiver, netlink.concerns_ipsec)) as changes:
        sender.send(struct.pack("=IHHII", 20, kind, 0, 0, 0) + bytes(4))
        assert changes.drain(*ADDRESSES) == found
