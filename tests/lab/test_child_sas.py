"""Child SAs that a kernel has lost: connect negotiates new ones, and deletes the lost ones."""

from __future__ import annotations

import pytest

from .cable import bring_up, child_sas, connections, evidence, ping, prepare, sas, tear_down
from .gateways import Gateway, two_gateways
from .rooms import LabError, until

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
        for flushed in ((c2,), (c1, c2)):
            for gateway in flushed:
                gateway.run("ip", "xfrm", "state", "flush")
            bring_up(*flushed)
            try:
                until(lambda: settled(c1) and settled(c2), "one Child SA for each connection")
            except LabError as error:
                raise AssertionError(f"{error}\n{evidence(c1)}{evidence(c2)}") from None
            assert sas(c1) == sas(c2)
            assert ping(c1).returncode == 0
        tear_down(c1, c2)
