"""The truth about offload, on a wire that has none: what is told, and what isn't let stay."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .cable import FILE, connected, connections, prepare, run, torn_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

BARE = "  encapsulation: no\n"
# A NIC that says that it can; the kernel then takes the SA, and keeps it in software.
BRAGGART = """#!/bin/sh
echo '[{"ifname":"eth0","esp-hw-offload":{"active":true,"fixed":false,"requested":true}}]'
"""


def offloaded(gateway: Gateway, *args: str) -> dict[str, Any]:
    """Return what offload says of the gateway's one cable."""
    done = run(gateway, "offload", *args, "--format", "json")
    (cable,) = json.loads(done.stdout)["result"]["cables"]
    assert isinstance(cable, dict)
    return cable


def test_what_the_nic_does(lab: Lab) -> None:
    for gateway in lab.gateways:
        prepare(gateway)
    c1 = lab.gateways[0]
    before = c1.snapshot()
    connected(*lab.gateways)
    try:
        there = c1.snapshot()
        for args in ((FILE,), ()):  # without a file every cable of the host is told
            told = offloaded(c1, *args)
            assert told["cable"] == connections(c1)[0][:-2]
            assert told["device"] == "eth0"
            assert told["features"]["esp-hw-offload"] is False
            assert told["modules"] == {"esp4_offload": True}
            assert len({sa["spi"] for sa in told["sas"]}) == 4
            assert told["verdict"] == "software"
            assert told["reasons"][0] == "eth0 has no esp-hw-offload"
        table = run(c1, "offload", FILE)
        assert table.returncode == 0, table.stderr
        assert "encapsulation: yes: the kernel offloads no ESP in UDP" in " ".join(
            table.stdout.split()
        )
        assert c1.snapshot() == there
    finally:
        torn_down(*lab.gateways)
    assert c1.snapshot() == before
    assert run(c1, "offload").stdout == "no cable on this host\n"
    none = offloaded(c1, FILE)
    assert (none["verdict"], none["sas"]) == ("none", [])


def test_required_of_a_nic_that_cannot(lab: Lab) -> None:
    c1 = lab.gateways[0]
    prepare(c1)
    c1.write(FILE, c1.read(FILE) + BARE + "  offload: required\n")
    before = c1.snapshot()
    done = run(c1, "connect", FILE)
    assert done.returncode == 3
    assert "ipsec.offload: required, and eth0 has no esp-hw-offload" in done.stderr
    assert c1.snapshot() == before


def test_required_and_yet_in_software(lab: Lab) -> None:
    """The NIC says that it can and 4.10 is told to use it: the SAs say that nobody does."""
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
        gateway.write(FILE, gateway.read(FILE) + BARE)
    c1.write(FILE, c1.read(FILE) + "  offload: required\n")
    c1.write("/etc/braggart/ethtool", BRAGGART, mode=0o755)
    before = c1.snapshot()
    with c2.popen(PROGRAM, "connect", FILE) as peer:
        path = "/etc/braggart:/usr/sbin:/usr/bin:/sbin:/bin"
        done = c1.run(PROGRAM, "connect", FILE, check=False, env={"PATH": path}, timeout=150)
        peer.communicate(timeout=90)
    assert done.returncode == 1, done.stderr
    assert "] add: ipsec whack" in done.stderr
    assert "--nic-offload yes" in done.stderr
    assert "ipsec.offload: required, and the SA 0x" in done.stderr
    assert "is in software" in done.stderr
    assert c1.snapshot() == before
    torn_down(c2)
