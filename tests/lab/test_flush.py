"""Leak watch: traffic runs while other programs reload and flush what they can."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cablectl.linux import nftables
from tests.support.examples import load

from .cable import FILE, bring_up, run, tear_down
from .doctor import Record
from .filters import MODES, follow, problems, reaches, start_firewalld, with_hosts
from .gateways import Gateway, Lab
from .rooms import PROGRAM, Room, until
from .traffic import PATTERN

pytestmark = pytest.mark.lab

MARK = bytes.fromhex(PATTERN) * 4
# How /etc/nftables.conf begins on Debian, with a table that an administrator adds.
RELOAD = """
flush ruleset
table inet filter { chain input { type filter hook input priority filter; }; }
"""
EVENTS = {
    "firewalld reloads": "firewall-cmd --reload",
    "nft flush ruleset": "nft flush ruleset",
    "nftables.conf is loaded": "nft -f /tmp/nftables.conf",
    "the cable's rule is flushed": "ip rule flush protocol 241",
}


# Sends UDP, each packet as a connection of its own: address, payload in hex.
SENDER = """
import socket, sys, time
while True:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as udp:
        udp.sendto(bytes.fromhex(sys.argv[2]), (sys.argv[1], 9))
    time.sleep(0.003)
"""


@contextmanager
def sending(host: Room, to: str) -> Iterator[None]:
    """Send to a host all the time."""
    argv = ("/usr/bin/python3", "-c", SENDER, to, MARK.hex())
    with host.popen(*argv) as process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def watching(gateway: Gateway) -> Iterator[None]:
    """Run `cablectl guard` meanwhile."""
    with gateway.popen(PROGRAM, "guard", FILE) as process:
        try:
            assert process.stderr
            line = process.stderr.readline()
            assert "loaded inet cablectl_" in line, line + process.stderr.read()
            yield
        finally:
            process.kill()


def is_guarded(gateway: Gateway, mode: str) -> bool:
    bundle = load("quickstart").bundle if mode == "transport" else "cluster2-172-18-0-7"
    table = (nftables.FAMILY, f"cablectl_{bundle}")
    return gateway.run("nft", "list", "table", *table, check=False).returncode == 0


@pytest.mark.parametrize("mode", MODES)
def test_nothing_leaks_whatever_is_flushed(mode: str, record_property: Record) -> None:
    with with_hosts(mode) as (lab, hosts):
        c1, c2 = lab.gateways
        start_firewalld(c1)
        follow(c1, problems(c1))
        c1.write("/tmp/nftables.conf", RELOAD)
        with watching(c1):
            bring_up(c1, c2)
            with sending(hosts["c1"], "10.45.0.2"):
                for name, command in EVENTS.items():
                    leaks, encrypted = leaks_of(lab, c1, mode, command)
                    record_property(f"{mode}, {name}", f"leak {leaks}")
                    assert leaks == 0
                    assert encrypted > 10, "nothing was sent"
                c1.kill_pluto()
                c1.run("ip", "xfrm", "policy", "flush")
                leaks, _ = leaks_of(lab, c1, mode, "ip xfrm state flush")
                record_property(f"{mode}, pluto killed, IPsec flushed", f"leak {leaks}")
                assert leaks == 0
                c1.start_pluto()
                assert run(c1, "connect", FILE).returncode == 0
                until(lambda: reaches(hosts["c1"], "10.45.0.2"), "traffic", 60)
            tear_down(c1, c2)


def leaks_of(lab: Lab, gateway: Gateway, mode: str, command: str) -> tuple[int, int]:
    """Run a command; return how many clear packets left meanwhile, and how many ESP packets.

    It begins 0.5 s before the command, and ends 1 s after the guard is back.
    """
    mac = gateway.run("cat", "/sys/class/net/eth0/address").stdout.strip().replace(":", "")
    with lab.capture() as wire:
        gateway.run("sleep", "0.5")
        gateway.run("sh", "-c", command)
        until(lambda: is_guarded(gateway, mode), "the guard")
        gateway.run("sleep", "1")
    leaks = sum(MARK in frame and frame[6:12] == bytes.fromhex(mac) for frame in wire.frames)
    return leaks, wire.summary()["esp-in-udp"].frames
