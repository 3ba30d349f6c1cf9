"""Tunnel mode through NAT: the peer can reach one gateway only by answering it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cablectl.config import native
from tests.support.documents import document

from .gateways import Gateway, Lab
from .traffic import bring_up_and_tear_down

pytestmark = pytest.mark.lab

HIDDEN, BOX = "192.168.1.2", "172.18.0.9"


@pytest.fixture(scope="module")
def natted() -> Iterator[tuple[Lab, Gateway, Gateway]]:
    """A gateway behind a box that masquerades, and a gateway that everybody can reach."""
    with Lab() as lab:
        c2 = lab.gateway("c2", "172.18.0.7/16", "2001:db8::7/64")
        box = lab.gateway("box", f"{BOX}/16", "2001:db8::9/64")
        c1 = lab.hidden("c1", f"{HIDDEN}/24", box)
        for gateway in (c1, c2):
            gateway.start_pluto()
        yield lab, c1, c2


@pytest.mark.parametrize("shape", ["tunnel v4 nat", "tunnel v4 nat server"])
def test_the_gateway_behind_nat_comes_up_by_itself(
    natted: tuple[Lab, Gateway, Gateway], shape: str
) -> None:
    lab, c1, c2 = natted
    text = document(shape).replace("172.18.0.8", HIDDEN).replace("203.0.113.8", BOX)
    network = native.parse(text, shape)
    cables = [network.cables(endpoint)[0] for endpoint in network.endpoints]
    sides = tuple(zip((c1, c2), cables, strict=True))
    bring_up_and_tear_down(lab, sides, text)
    assert_through_the_box(c1, c2)


def assert_through_the_box(c1: Gateway, c2: Gateway) -> None:
    """The box replaced the hidden gateway's address and port by its own."""
    log = c2.read("/run/pluto/pluto.log")
    assert HIDDEN not in c2.run("ip", "neigh").stdout
    assert f"NATD={BOX}:" in log
    assert f"NATD={BOX}:4500" not in log
    assert c1.run("ip", "route", "get", "172.18.0.7").stdout.startswith(
        "172.18.0.7 via 192.168.1.1"
    )
