"""Every mode and overlay, IPv4 and IPv6, with the installed program on two real gateways."""

from __future__ import annotations

from itertools import product

import pytest

from cablectl.model.wishes import OVERLAYS
from tests.support.documents import FAMILIES, document, shaped

from .cable import FILE, PSK, PSK_FILE, run, tear_down
from .extent import chosen
from .gateways import Lab
from .rooms import PROGRAM
from .traffic import bring_up_and_tear_down

pytestmark = pytest.mark.lab

SHAPES = (
    "tunnel v4",
    "tunnel v6",
    "tunnel v4 server",
    "transport vxlan v4 server",
    *(f"transport {kind} {family}" for kind, family in product(OVERLAYS, FAMILIES)),
    "transport none v4",
    "transport none v6",
    "none vxlan v4",
    "none vxlan v6",
)


@pytest.mark.parametrize("shape", chosen(SHAPES))
def test_from_connect_to_teardown(lab: Lab, shape: str) -> None:
    cables = (shaped(shape, end) for end in ("cluster1", "cluster2"))
    bring_up_and_tear_down(lab, tuple(zip(lab.gateways, cables, strict=True)), document(shape))


def test_a_server_says_why_its_client_does_not_come_up(lab: Lab) -> None:
    """The server can't ask the client, but the server's pluto logs the answer to the client."""
    c1, c2 = lab.gateways
    for gateway, key in ((c1, PSK), (c2, "another key than that of the client")):
        gateway.write(FILE, document("tunnel v4 server"))
        gateway.write(PSK_FILE, f"{key}\n")
    before = [gateway.snapshot() for gateway in lab.gateways]
    with c1.popen(PROGRAM, "connect", FILE, "--timeout", "15") as client:
        server = run(c2, "connect", FILE, "--timeout", "8")
        client.communicate(timeout=90)
    assert server.returncode == 1, server.stderr
    assert "within 8 s: authentication failed" in server.stderr
    assert "put the same pre-shared key on both ends" in server.stderr
    assert [gateway.snapshot() for gateway in lab.gateways] == before


def test_a_server_whose_client_never_comes(lab: Lab) -> None:
    c2 = lab.gateways[1]
    c2.write(FILE, document("tunnel v4 server"))
    c2.write(PSK_FILE, f"{PSK}\n")
    before = c2.snapshot()
    done = run(c2, "connect", FILE, "--timeout", "5")
    assert done.returncode == 5, done.stderr
    assert "within 5 s: the client didn't negotiate; the cable waits for it" in done.stderr
    assert run(c2, "status", FILE).returncode == 1
    tear_down(c2)
    assert c2.snapshot() == before
