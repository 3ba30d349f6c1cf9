"""An authority that was removed while pluto runs: pluto's cache keeps it, and cablectl copes."""

from __future__ import annotations

import pytest

from . import extent
from .cable import FILE, bring_up, run, tear_down
from .certs import DIRECTORY, NAME, document, hand_out, issue, new_authority, nss
from .gateways import Gateway, two_gateways
from .mesh import run_on_all

pytestmark = pytest.mark.lab
WARNING = "pluto trusts the authority 'CN=old, O=test' until pluto is restarted"
CONNECT = ("connect", FILE, "--timeout", "5")


def restart(gateway: Gateway) -> None:
    gateway.stop_pluto()
    gateway.start_pluto()


@pytest.mark.skipif(not extent.ALL, reason="make rotation")
@pytest.mark.parametrize("release", ["4.10", "5.2"])
def test_its_certificates_are_refused(release: str) -> None:
    """connect warns until pluto is restarted: so long, a certificate of the authority is taken."""
    with two_gateways(release, release) as lab:
        c1, c2 = lab.gateways
        old, new = new_authority("old"), new_authority("new")
        for gateway in lab.gateways:
            gateway.start_pluto()
            gateway.write(FILE, document())
            hand_out(gateway, issue(old, NAME[gateway.name]), trusted=old)
        bring_up(c1, c2)
        tear_down(c1, c2)
        before = [nss(gateway) for gateway in lab.gateways]

        hand_out(c1, issue(new, NAME["c1"]), trusted=new)
        c2.write(f"{DIRECTORY}/ca.pem", (old.pem + new.pem).decode())
        restart(c2)  # 4.10 would see the new authority five minutes later
        (code, first), (_, second) = run_on_all(lab.gateways, *CONNECT)
        assert code == 0, first  # if not, NSS's cache isn't as it was: the warning can go
        assert WARNING in first
        assert WARNING not in second
        tear_down(c1, c2)

        restart(c1)
        (one, first), (other, second) = run_on_all(lab.gateways, *CONNECT)
        assert 0 not in (one, other), first
        assert WARNING not in first
        assert "an authority that this host doesn't trust" in first.splitlines()[-3], first
        assert "authentication failed" in second or "AUTHENTICATION_FAILED" in second, second

        hand_out(c2, issue(new, NAME["c2"]), trusted=new)
        bring_up(c1, c2)
        assert "nothing to do" in run(c2, *CONNECT).stdout
        tear_down(c1, c2)
        assert [nss(gateway) for gateway in lab.gateways] == before
