"""Child SAs that the kernel of one end has lost: connect negotiates new ones, and deletes those."""

from __future__ import annotations

import pytest

from .cable import FILE, bring_up, child_sas, connections, ping, prepare, run, sas, tear_down
from .gateways import Gateway, two_gateways
from .rooms import until

pytestmark = pytest.mark.lab


def settled(gateway: Gateway) -> bool:
    """Tell whether each connection has one Child SA in pluto, and two SAs in the kernel."""
    return child_sas(gateway) == connections(gateway) and len(sas(gateway)) == 4


@pytest.mark.parametrize("release", ["4.10", "5.2"])
def test_what_the_kernel_has_lost_is_negotiated_again(release: str) -> None:
    """c2 begins. Until its connect, the peer's packets go nowhere, though pluto has all SAs."""
    with two_gateways(release, release) as lab:
        c1, c2 = lab.gateways
        for gateway in lab.gateways:
            gateway.start_pluto()
            prepare(gateway)
        bring_up(c1, c2)
        c2.run("ip", "xfrm", "state", "flush")
        done = run(c2, "connect", FILE)
        assert done.returncode == 0, done.stderr
        until(lambda: settled(c1) and settled(c2), "one Child SA for each connection")
        assert sas(c1) == sas(c2)
        assert ping(c1).returncode == 0
        tear_down(c1, c2)
