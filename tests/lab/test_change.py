"""A changed file: connect applies the change, and SAs that it doesn't concern stay up."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from .cable import FILE, bring_up, evidence, ping, prepare, run, sas, tear_down
from .extent import ALL
from .gateways import Gateway, Lab, two_gateways
from .rooms import LabError, until
from .stream import flowing

pytestmark = pytest.mark.lab

PAIRS = [("4.10", "4.10"), ("5.2", "5.2"), ("4.10", "5.2")]
ROUNDS = 20 if ALL else 2
RATE = 100  # packets a second
# Seconds without a packet in one direction. Beside other labs all takes longer.
LONGEST = 2.0 if ALL else 30.0
# With their defaults, 4.10 and 5.2 agree on no Child SA (docs/libreswan.md).
CHANGES = [
    f"ipsec:\n  esn: yes\n  pfs_group: modp2048\n  esp: [{suite}]\n"
    for suite in ("aes256-sha2_256", "aes_gcm-null")
]


def assert_applied(gateway: Gateway, *expected: str) -> None:
    """Check the steps that plan announces, connect, and check that nothing is left to do."""
    planned = run(gateway, "plan", FILE, "--exit-code")
    assert planned.returncode == 1
    changes = [line for line in planned.stdout.splitlines() if line[0] in "+~-"]
    assert [f"{line[0]} {line[2:].split()[0]}" for line in changes] == list(expected)
    assert run(gateway, "connect", FILE).returncode == 0
    assert run(gateway, "plan", FILE, "--exit-code").returncode == 0


def test_unchanged_sas_stay_up(lab: Lab) -> None:
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
    bring_up(c1, c2)
    spis, text = sas(c1), c1.read(FILE)
    assert len(spis) == 4
    try:
        c1.write(FILE, text + "vxlan: {mtu: 1300}\n")
        assert_applied(c1, "~ mss", "~ overlay")
        (link,) = json.loads(c1.run("ip", "-j", "link", "show", "vxlan-tunnel").stdout)
        assert link["mtu"] == 1300
        text = c1.read(FILE).replace("10.45.0.0/16", "10.46.0.0/16")
        c1.write(FILE, text)
        assert_applied(c1, "~ guard", "~ mss", "+ up", "- up")
        assert "vxlan-tunnel" in c1.run("ip", "route", "get", "10.46.0.1").stdout
        assert "vxlan-tunnel" not in c1.run("ip", "route", "get", "10.45.0.1").stdout
        assert sas(c1) == spis
        assert ping(c1).returncode == 0

        for gateway in lab.gateways:
            text = gateway.read(FILE).replace("ipsec:\n", "ipsec:\n  esp: [aes256-sha2_256]\n")
            gateway.write(FILE, text)
        bring_up(c2, c1)
        assert not sas(c1) & spis
        assert "auth-trunc hmac(sha256)" in c1.run("ip", "xfrm", "state", "list", "nokeys").stdout
        # If both ends initiated at the same moment, 4.10 takes a minute (docs/libreswan.md).
        try:
            until(lambda: ping(c1).returncode == 0, "a ping", 150)
        except LabError as error:
            raise AssertionError(f"{error}\n{evidence(c1)}{evidence(c2)}") from None
    finally:
        tear_down(c1, c2)


@pytest.mark.timeout(3000)
@pytest.mark.parametrize("releases", PAIRS if ALL else PAIRS[2:], ids="-".join)
def test_both_ends_apply_a_change_at_the_same_moment(
    releases: tuple[str, str], record_property: Callable[[str, object], None]
) -> None:
    """Whichever end is first, no direction is lost for long."""
    gaps = []
    with two_gateways(*releases) as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
            prepare(gateway)
        plain = lab.gateways[0].read(FILE)
        c1, c2 = lab.gateways
        for place in range(ROUNDS + 1):
            for gateway in lab.gateways:
                gateway.write(FILE, plain.replace("ipsec:\n", CHANGES[place % 2]))
            if place == 0:
                bring_up(c1, c2)
                continue
            with flowing(c1, "241.18.0.8", c2, "241.18.0.7", RATE) as stream:
                bring_up(c1, c2)
            gaps += [counted.in_a_row / RATE for counted in stream.counted]
        tear_down(c1, c2)
    each = " ".join(f"{gap:.2f}" for gap in sorted(gaps))
    record_property(f"{'-'.join(releases)}, seconds without a packet", each)
    assert max(gaps) < LONGEST, each
