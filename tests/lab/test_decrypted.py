"""What an SA has decrypted for this gateway leaves it by no router, while it lacks the address.

The other end may have its device first, and then sends through the SAs at once. A gateway forwards.
"""

from __future__ import annotations

import pytest

from cablectl.linux import guard
from cablectl.model.wishes import OVERLAYS
from tests.support.documents import FAMILIES, document, shaped

from .cable import FILE, PSK, PSK_FILE, bring_up, tear_down
from .extent import ALL
from .gateways import Lab
from .traffic import inner_addresses, ping

pytestmark = pytest.mark.lab

SHAPES = [f"tunnel {kind} {family}" for family in FAMILIES for kind in OVERLAYS]


@pytest.mark.parametrize("shape", SHAPES if ALL else SHAPES[: len(OVERLAYS)])
def test_it_is_not_forwarded(lab: Lab, shape: str) -> None:
    sender, late = lab.gateways
    there, here = (shaped(shape, end) for end in ("cluster1", "cluster2"))
    assert here.overlay
    port = getattr(here.overlay, "port", None) or 4789
    for gateway in lab.gateways:
        gateway.write(FILE, document(shape))
        gateway.write(PSK_FILE, f"{PSK}\n")
    for setting in ("ipv4/ip_forward", "ipv6/conf/all/forwarding"):
        late.run("sh", "-c", f"echo 1 >/proc/sys/net/{setting}")
    bring_up(*lab.gateways)
    try:
        # As it is before the device is made; without the device, the blackhole is left.
        late.ip(f"link delete {here.overlay.device}")
        late.run("ip", f"-{here.local.address.version}", "route", "flush", "table", "24141")
        with lab.capture(port) as wire:
            ping(sender, *inner_addresses(there), 200)
        assert wire.summary()["esp-in-udp"].frames >= 3
        assert wire.summary()["overlay"].frames == 0
        late.run("nft", "flush", "chain", *guard.name(here).split(), "through")
        late.run("nft", "flush", "chain", *guard.name(here).split(), "out")
        with lab.capture(port) as wire:
            ping(sender, *inner_addresses(there), 200)
        assert wire.summary()["overlay"].frames > 0, "without the rule it doesn't leave either"
    finally:
        tear_down(*lab.gateways)
