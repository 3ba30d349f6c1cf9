"""Bound UDP ports and their processes."""

import pytest

from cablectl.linux.sockets import Process, Socket, parse
from tests.support.captures import SOCKETS


def test_sockets_and_their_processes_are_parsed() -> None:
    pluto = Process("pluto", 17)
    assert parse(SOCKETS) == (
        Socket("172.18.0.8", 4500, pluto),
        Socket("0.0.0.0", 4789),  # noqa: S104 - as ss prints it
        Socket("127.0.0.53%lo", 53, Process("systemd-resolve", 512)),
        Socket("[2001:db8::8]", 500, pluto),
        Socket("*", 500),
    )
    assert str(pluto) == "pluto (PID 17)"
    (odd,) = parse('UNCONN 0 0 *:4789 *:* users:(("a"),b",pid=9,fd=1))\n')
    assert odd.holder == Process('a"),b', 9)
    assert parse("") == parse("Cannot open netlink socket\n") == ()


@pytest.mark.parametrize(
    ("bound", "address", "covers"),
    [
        ("172.18.0.8", "172.18.0.8", True),
        ("172.18.0.8", "172.18.0.7", False),
        ("0.0.0.0", "172.18.0.8", True),  # noqa: S104 - as ss prints it
        ("*", "172.18.0.8", True),
        ("[::]", "2001:db8::8", True),
        ("[2001:db8::8]", "2001:db8::8", True),
        ("127.0.0.53%lo", "127.0.0.53", True),
        ("[fe80::1]%eth0", "2001:db8::8", False),
    ],
)
def test_the_address_that_a_bound_socket_covers(bound: str, address: str, covers: bool) -> None:
    assert Socket(bound, 500).covers(address) == covers
