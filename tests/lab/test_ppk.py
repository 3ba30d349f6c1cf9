"""A PPK beside the pre-shared key (RFC 8784): with it the cable comes up, without it never."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from cablectl.libreswan.refusal import parse_refusal

from .cable import (
    EXAMPLES,
    FILE,
    bring_up,
    child_sas,
    connections,
    ping,
    prepare,
    run,
    tear_down,
    until_it_waits,
)
from .gateways import PLUTO_LOG, Gateway, two_gateways
from .releases import added
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

PPK_FILE, PPK = "/etc/cablectl/ppk", "a PPK of the lab, 40 characters or more: yes"
PLAIN = (EXAMPLES / "quickstart.yaml").read_text()
MIXED = "ipsec:\n  esn: yes\n  esp: [aes_gcm-null]\n  pfs_group: modp2048\n"  # 4.x with 5.x
WITHOUT = PLAIN.replace("ipsec:\n", MIXED)
WITH = WITHOUT.replace("ipsec:\n", f"ipsec:\n  ppk: {{file: {PPK_FILE}}}\n")
PAIRS = [("4.10", "5.2"), *((name, name) for name in added())]


@pytest.fixture(params=PAIRS)
def ends(request: pytest.FixtureRequest) -> Iterator[list[Gateway]]:
    with two_gateways(*request.param) as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
            prepare(gateway)
            gateway.write(FILE, WITH)
            gateway.write(PPK_FILE, f"{PPK}\n")
        yield lab.gateways


def refusals(c1: Gateway, c2: Gateway) -> tuple[str, str]:
    """Connect c2 while c1 waits; return c1's reason, and what c2 says. Nothing may be left."""
    ends = (c1, c2)
    before, logged = [gateway.snapshot() for gateway in ends], len(c1.read(PLUTO_LOG))
    with c1.popen(PROGRAM, "connect", FILE) as waiting:
        until_it_waits(waiting)
        done = run(c2, "connect", FILE, "--timeout", "3")
        assert not any(map(child_sas, ends))
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 130
    assert done.returncode == 1, done.stderr
    assert PPK not in done.stderr + c1.read(PLUTO_LOG) + c2.read(PLUTO_LOG)
    assert [gateway.snapshot() for gateway in ends] == before
    refusal = parse_refusal(c1.read(PLUTO_LOG)[logged:])
    assert refusal
    return refusal.reason, done.stderr


def test_a_cable_with_a_ppk_comes_up_with_it_alone(ends: list[Gateway]) -> None:
    c1, c2 = ends
    bring_up(*ends)
    try:
        for gateway in ends:
            assert child_sas(gateway) == connections(gateway)
            assert "PPK AUTH calculated as" in gateway.read(PLUTO_LOG)
            assert gateway.whack("--status").count("PPK_INSIST") == 2
            assert run(gateway, "connect", FILE).stdout.startswith("nothing to do: ")
        assert ping(c1).returncode == 0
        c2.write(PPK_FILE, f"another {PPK}\n")
        planned = run(c2, "plan", FILE).stdout
        assert planned.count("the PPK changed") == 2, planned
    finally:
        tear_down(*ends)
    reason, told = refusals(c1, c2)
    assert reason == "authentication failed"
    assert "authentication failed" in told
    assert "the same PPK" in told
    c1.write(FILE, WITHOUT)
    reason, told = refusals(c1, c2)
    assert reason == "one end asks for a PPK, the other one has none"
    assert "PPK" in told
