"""ESP offload on a NIC without it: what the program reports, and which cables it refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest

from .cable import FILE, bring_up, connections, prepare, run, tear_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

BARE = "  encapsulation: no\n"
# A NIC that claims ESP offload; the kernel then accepts the SA, and processes it in software.
BRAGGART = """#!/bin/sh
echo '[{"ifname":"eth0","esp-hw-offload":{"active":true,"fixed":false,"requested":true}}]'
"""


def offload_report(gateway: Gateway, *args: str) -> dict[str, Any]:
    """Return the report of `offload` on the gateway's only cable."""
    done = run(gateway, "offload", *args, "--format", "json")
    (cable,) = json.loads(done.stdout)["result"]["cables"]
    assert isinstance(cable, dict)
    return cable


def test_the_report_and_the_table(lab: Lab) -> None:
    for gateway in lab.gateways:
        prepare(gateway)
    c1 = lab.gateways[0]
    before = c1.snapshot()
    bring_up(*lab.gateways)
    try:
        while_up = c1.snapshot()
        for args in ((FILE,), ()):  # without a file, offload reports every cable of the host
            report = offload_report(c1, *args)
            assert report["cable"] == connections(c1)[0][:-2]
            assert report["device"] == "eth0"
            assert report["features"]["esp-hw-offload"] is False
            assert report["modules"] == {"esp4_offload": True}
            assert len({sa["spi"] for sa in report["sas"]}) == 4
            assert report["verdict"] == "software"
            assert report["reasons"][0] == "eth0 has no esp-hw-offload"
        table = run(c1, "offload", FILE)
        assert table.returncode == 0, table.stderr
        text = " ".join(table.stdout.split())
        assert "encapsulation: yes: the kernel doesn't offload ESP in UDP" in text
        assert c1.snapshot() == while_up
    finally:
        tear_down(*lab.gateways)
    assert c1.snapshot() == before
    assert run(c1, "offload").stdout == "no cable on this host\n"
    none = offload_report(c1, FILE)
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
    """ethtool claims offload and whack asks for it, but the SAs are in software."""
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
    tear_down(c2)
