"""What a socket of netlink reports: whether a message contains a word."""

import socket
from collections.abc import Iterator
from contextlib import closing
from errno import EBADF, ENOBUFS

import pytest

from cablectl.host.netlink import Changes

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
