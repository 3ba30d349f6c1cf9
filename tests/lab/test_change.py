"""A file that has changed: connect applies it, and what it doesn't say otherwise stays up."""

from __future__ import annotations

import json

import pytest

from .cable import FILE, connected, evidence, ping, prepare, run, sas, torn_down
from .gateways import Gateway, Lab
from .rooms import LabError, until

pytestmark = pytest.mark.lab


def applied(gateway: Gateway, *expected: str) -> None:
    """See what plan says beforehand, connect, and see that nothing is left to do."""
    told = run(gateway, "plan", FILE, "--exit-code")
    assert told.returncode == 1
    changes = [line for line in told.stdout.splitlines() if line[0] in "+~-"]
    assert [f"{line[0]} {line[2:].split()[0]}" for line in changes] == list(expected)
    assert run(gateway, "connect", FILE).returncode == 0
    assert run(gateway, "plan", FILE, "--exit-code").returncode == 0


def test_what_did_not_change_stays_up(lab: Lab) -> None:
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
    connected(c1, c2)
    spis, text = sas(c1), c1.read(FILE)
    assert len(spis) == 4
    try:
        c1.write(FILE, text + "vxlan: {mtu: 1300}\n")
        applied(c1, "~ overlay")
        (link,) = json.loads(c1.run("ip", "-j", "link", "show", "vxlan-tunnel").stdout)
        assert link["mtu"] == 1300
        text = c1.read(FILE).replace("10.45.0.0/16", "10.46.0.0/16")
        c1.write(FILE, text)
        applied(c1, "+ up", "- up")
        assert "vxlan-tunnel" in c1.run("ip", "route", "get", "10.46.0.1").stdout
        assert "vxlan-tunnel" not in c1.run("ip", "route", "get", "10.45.0.1").stdout
        assert sas(c1) == spis
        assert ping(c1).returncode == 0

        for gateway in lab.gateways:
            text = gateway.read(FILE).replace("ipsec:\n", "ipsec:\n  esp: [aes256-sha2_256]\n")
            gateway.write(FILE, text)
        connected(c2, c1)
        assert not sas(c1) & spis
        assert "auth-trunc hmac(sha256)" in c1.run("ip", "xfrm", "state", "list", "nokeys").stdout
        # Both may have asked at the same moment, which costs 4.10 a minute (docs/libreswan.md).
        try:
            until(lambda: ping(c1).returncode == 0, "a ping", 150)
        except LabError as error:
            raise AssertionError(f"{error}\n{evidence(c1)}{evidence(c2)}") from None
    finally:
        torn_down(c1, c2)
