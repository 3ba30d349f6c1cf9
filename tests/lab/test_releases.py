"""Libreswan 5.2 with 5.2 and with 4.10: one file, and each release's own whack options.

Each Libreswan of LAB_RELEASES meets itself, 4.10 and 5.2.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable

import pytest

from cablectl.libreswan import dialects
from cablectl.libreswan.dialects import Dialect
from tests.support.documents import AGREED, document, shaped

from .cable import FILE, PSK, PSK_FILE, bring_up, run, tear_down
from .extent import chosen
from .gateways import PLUTO_LOG, Lab
from .releases import DEBIAN, added
from .traffic import bring_up_and_tear_down

pytestmark = pytest.mark.lab

SHAPES = (
    "transport vxlan v4",
    "transport gre v6",
    "transport ipip v4",
    "transport ipip v6",
    "tunnel v4",
    "tunnel v4 server",
)


LANES = [("5.2", "5.2"), ("4.10", "5.2")]
LANES += [lane for name in added() for lane in ((name, name), ("4.10", name), ("5.2", name))]
# The test gets the two gateways, and the names of their releases.
in_each_lane = pytest.mark.parametrize(
    ("lab", "releases"),
    [(lane, lane) for lane in LANES],
    indirect=["lab"],
    ids=map(" with ".join, LANES),
    scope="module",
)
ENCAPSULATION = {row.encapsulate for row in dialects.DIALECTS}


def dialects_of(lab: Lab) -> list[Dialect]:
    return [dialects.dialect(gateway.release()) for gateway in lab.gateways]


def agree(rows: list[Dialect]) -> bool:
    """Tell whether releases agree by themselves: not if they handle ESN in different ways."""
    return len({row.esn for row in rows}) == 1


@pytest.mark.parametrize("shape", chosen(SHAPES, step=2))
@in_each_lane
def test_from_connect_to_teardown(
    lab: Lab,
    releases: tuple[str, str],
    shape: str,
    record_property: Callable[[str, object], None],
) -> None:
    for gateway, release in zip(lab.gateways, releases, strict=True):
        if release in DEBIAN:
            assert gateway.version().split()[-1] == release
        else:
            record_property(release, gateway.version())
    rows = dialects_of(lab)
    cables = (shaped(shape, end) for end in ("cluster1", "cluster2"))
    text = document(shape) + ("" if agree(rows) else AGREED)
    bring_up_and_tear_down(lab, tuple(zip(lab.gateways, cables, strict=True)), text)
    for gateway, row in zip(lab.gateways, rows, strict=True):
        planned = run(gateway, "plan", FILE, "--format", "sh").stdout
        for option in ENCAPSULATION:
            assert (f" {shlex.join(option)} " in planned) == (option == row.encapsulate)
        mode = shape.split()[0]
        needed = row.tunnel if mode == "tunnel" else row.transport
        assert (f" --{mode} " in planned) == bool(needed)


def assert_pfs_group(lab: Lab) -> None:
    """Of two algorithms, the one that is negotiated has the PFS group.

    The last Child SA has a key exchange of its own; the first one may have come with the IKE SA.
    """
    text = document("transport vxlan v4 pfs") + ("" if agree(dialects_of(lab)) else "  esn: yes\n")
    for gateway in lab.gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    bring_up(*lab.gateways)
    logs = [gateway.read(PLUTO_LOG) for gateway in lab.gateways]
    tear_down(*lab.gateways)
    for log in logs:
        *_, last = re.findall("ESPinUDP.* xfrm=([^ ]+)", log)
        assert last.endswith("-MODP2048")


@in_each_lane
@pytest.mark.usefixtures("releases")
def test_each_of_two_algorithms_has_the_pfs_group(lab: Lab) -> None:
    assert_pfs_group(lab)


POLICY = """\
  ike: [aes256-sha2_256;dh20]
  replay_window: 4096
  ike_lifetime: 7200
  sa_lifetime: 3600
"""


@in_each_lane
@pytest.mark.usefixtures("releases")
def test_proposals_and_limits_and_a_change_of_them(lab: Lab) -> None:
    """pluto has them, so has the SA, and connect loads a connection again for other ones."""
    rows = dialects_of(lab)
    limited = all(row.max_bytes for row in rows)
    text = document("transport gre v4") + ("ipsec:\n" if agree(rows) else AGREED) + POLICY
    text += "  max_bytes: 1000000000\n" if limited else ""
    for gateway in lab.gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    first, _ = lab.gateways
    try:
        bring_up(*lab.gateways)
        for gateway in lab.gateways:
            status = gateway.whack("--status")
            assert " ike_life: 7200s; ipsec_life: 3600s; " in status
            assert (" ipsec_max_bytes: 953MiB; " in status) == limited
            assert " replay_window: 4096; " in status
            assert ":   IKE algorithms: AES_CBC_256-HMAC_SHA2_256-DH20\n" in status
            assert re.search(r"algorithm newest: AES_CBC_256-HMAC_SHA2_256-DH20\n", status)
            states = gateway.run("ip", "-s", "xfrm", "state", "list", "nokeys").stdout
            assert "replay_window 4096" in states
            assert ("hard 1000000000(bytes)" in states) == limited
        first.write(FILE, text.replace("sa_lifetime: 3600", "sa_lifetime: 1800"))
        assert run(first, "plan", FILE, "--exit-code").returncode == 1
        bring_up(first)
        assert " ike_life: 7200s; ipsec_life: 1800s; " in first.whack("--status")
        assert run(first, "plan", FILE, "--exit-code").returncode == 0
    finally:
        tear_down(*lab.gateways)


def test_each_of_two_algorithms_has_the_pfs_group_on_4_10(lab: Lab) -> None:
    assert_pfs_group(lab)
