"""Echoes without waiting: on the loopback, whose kernel answers."""

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator
from ipaddress import ip_address

import pytest

from cablectl.errors import HostNotReadyError
from cablectl.host import echoes
from cablectl.host.echoes import PROTOCOLS, Answer, Echoes
from cablectl.host.socket_filter import attach
from cablectl.linux import icmp

HERE = {4: ip_address("127.0.0.1"), 6: ip_address("::1")}
OTHER = {4: ip_address("192.0.2.1"), 6: ip_address("2001:db8::1")}  # of no host: RFC 5737, RFC 3849
TOKEN = b"12345678"


def is_readable(found: Echoes, seconds: float = 0.0) -> bool:
    waiting = select.poll()
    for number in found.filenos:
        waiting.register(number, select.POLLIN)
    return bool(waiting.poll(seconds * 1000))


def answers(found: Echoes, number: int) -> list[Answer]:
    """Return so many answers, or those of two seconds."""
    arrived: list[Answer] = []
    end = time.monotonic() + 2
    while len(arrived) < number and time.monotonic() < end:
        is_readable(found, 0.1)
        arrived += list(found.receive())
    return arrived


@pytest.fixture(params=[4, 6])
def version(request: pytest.FixtureRequest) -> int:
    """A version of IP that this machine has, for a user who may open raw sockets."""
    chosen: int = request.param
    family = socket.AF_INET if chosen == 4 else socket.AF_INET6
    try:
        with socket.socket(family, socket.SOCK_RAW, PROTOCOLS[chosen]) as probe:
            probe.bind((str(HERE[chosen]), 0))
    except OSError:
        pytest.skip("no raw socket, or no such version of IP")
    return chosen


@pytest.fixture
def opened(version: int) -> Iterator[Echoes]:
    with Echoes({version}) as made:
        yield made


def test_an_answer_has_target_number_and_rtt(opened: Echoes, version: int) -> None:
    here = HERE[version]
    began = time.monotonic()
    assert all(opened.send(here, here, sequence) for sequence in (0, 7, 65535))
    found = answers(opened, 3)
    assert [(each.target, each.sequence) for each in found] == [(here, n) for n in (0, 7, 65535)]
    assert all(0 < each.rtt <= time.monotonic() - began for each in found)
    assert (list(opened.receive()), is_readable(opened)) == ([], False)


def test_the_time_in_the_buffer_is_no_part_of_the_rtt(opened: Echoes, version: int) -> None:
    opened.send(HERE[version], HERE[version], 1)
    time.sleep(0.5)
    (answer,) = answers(opened, 1)
    assert answer.rtt < 0.4


def test_the_kernels_stamp_tells_how_long_a_packet_waited() -> None:
    stamp = struct.pack("@ll", 1000, 500_000_000)
    control = [(socket.SOL_SOCKET, echoes._SO_TIMESTAMPNS, stamp)]
    assert echoes._waited(control, 1003, 10) == 2.5
    assert echoes._waited(control, 1003, 2) == 0  # the clock was set
    assert echoes._waited(control, 999, 10) == 0
    assert echoes._waited([], 1003, 10) == 0


def test_a_busy_host_makes_no_rtt_shorter(
    opened: Echoes, version: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process is kept from the CPU whenever it has read the clock that counts."""
    here, monotonic = HERE[version], time.monotonic

    def slow() -> float:
        now = monotonic()
        time.sleep(0.2)
        return now

    monkeypatch.setattr(time, "monotonic", lambda: monotonic() - 1)  # the RTT is a second
    opened.send(here, here, 1)
    assert is_readable(opened, 2)
    monkeypatch.setattr(time, "monotonic", slow)
    (answer,) = opened.receive()
    assert answer.rtt > 0.999


def test_a_source_that_this_host_does_not_hold(opened: Echoes, version: int) -> None:
    assert not opened.send(OTHER[version], HERE[version], 1)


def test_what_the_kernel_drops_counts_as_sent(opened: Echoes, version: int) -> None:
    refused = ip_address("255.255.255.255" if version == 4 else "fe80::1")
    assert opened.send(HERE[version], refused, 1)
    assert list(opened.receive()) == []


def test_another_programs_answers_wake_nobody(opened: Echoes, version: int) -> None:
    here = HERE[version]
    with Echoes({version}) as other:
        other._id = opened._id ^ 1
        other.send(here, here, 3)
        assert not is_readable(opened, 0.2)
    with Echoes({version}) as other:  # the same identifier by chance, but another token
        other._id = opened._id
        other.send(here, here, 3)
        assert is_readable(opened, 2)
        assert list(opened.receive()) == []


def test_only_replies_pass_the_filter(version: int) -> None:
    header = bytes([0x46]) + bytes(23) if version == 4 else b""
    kind, other = (0, 8) if version == 4 else (129, 128)
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with sender, receiver:
        receiver.setblocking(False)
        attach(receiver, icmp.only_replies(version, 7))
        for code, identifier, passes in ((kind, 7, True), (kind, 8, False), (other, 7, False)):
            sent = header + struct.pack("!BBHHH", code, 0, 0, identifier, 3) + TOKEN
            sender.send(sent)
            if passes:
                assert receiver.recv(256) == sent
            else:
                with pytest.raises(BlockingIOError):
                    receiver.recv(256)


def test_an_answer_of_another_length_is_none_of_ours(opened: Echoes, version: int) -> None:
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_RAW, PROTOCOLS[version]) as sender:
        request = icmp.request(version, opened._id, 3, opened._token)
        sender.sendto(request, (str(HERE[version]), 0))
        assert is_readable(opened, 2)
    assert list(opened.receive()) == []


def refuse(error: Callable[[], OSError], monkeypatch: pytest.MonkeyPatch) -> HostNotReadyError:
    def refused(*_: object) -> None:
        raise error()

    monkeypatch.setattr(socket, "socket", refused)
    with pytest.raises(HostNotReadyError) as caught, Echoes({6}):
        pass
    return caught.value


def test_without_the_right_to_it_the_host_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "root or CAP_NET_RAW" in refuse(PermissionError, monkeypatch).message


def test_without_ipv6_the_host_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    missing = refuse(lambda: OSError(97, "Address family not supported"), monkeypatch)
    assert missing.message == "can't send IPv6: Address family not supported"
