"""The unit under a real systemd, with its sandbox: the cable comes up at boot, and stays up."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from tests.support.documents import AGREED, document

from . import certs
from .booted import await_condition, booted, configure, systemctl, unit_property
from .cable import FILE, PSK, PSK_FILE, child_sas, connections, ping, sas
from .certs import NAME, hand_out, issue, new_authority, nss
from .gateways import Gateway, Lab

pytestmark = pytest.mark.lab

CABLE = "cablectl@cable.service"
GUARD = "cablectl-guard@cable.service"
IMPATIENT = """
[Service]
ExecStart=
ExecStart=cablectl watch /etc/cablectl/%i.yaml --timeout 3
"""


@pytest.fixture(scope="module")
def gateways() -> Iterator[tuple[Gateway, Gateway]]:
    """Debian 12 and 13, booted with the unit enabled; the second host has no key yet."""
    with Lab() as lab, ExitStack() as stack:
        for name, last, release in (("c1", 8, "4.10"), ("c2", 7, "5.2")):
            gateway = lab.gateway(name, f"172.18.0.{last}/16", release=release)
            configure(gateway)
            gateway.write(FILE, document("transport vxlan v4") + AGREED)
            systemctl(gateway, "enable", CABLE)
        c1, c2 = lab.gateways
        c1.write(PSK_FILE, PSK)
        for gateway in lab.gateways:
            stack.enter_context(booted(gateway))
        yield c1, c2


def is_active(gateway: Gateway) -> bool:
    return unit_property(gateway, "ActiveState", CABLE) == "active"


def carries_traffic(gateway: Gateway) -> bool:
    return child_sas(gateway) == connections(gateway) and ping(gateway).returncode == 0


def await_traffic(gateway: Gateway) -> None:
    """Wait for it: the unit is active as soon as its first connect has ended."""
    await_condition(gateway, partial(carries_traffic, gateway), "traffic")


def test_the_unit_starts_at_boot_and_retries_without_a_key(
    gateways: tuple[Gateway, Gateway],
) -> None:
    c1, c2 = gateways
    await_condition(c2, lambda: unit_property(c2, "SubState", CABLE) == "auto-restart", "a failure")
    assert unit_property(c2, "ExecMainStatus", CABLE) == "3"
    c2.write(PSK_FILE, PSK)
    for gateway in gateways:
        await_condition(gateway, partial(is_active, gateway), "the cable")
    await_traffic(c1)
    await_traffic(c2)


def test_the_unit_restarts_after_pluto_is_killed(
    gateways: tuple[Gateway, Gateway],
) -> None:
    _, c2 = gateways
    before = unit_property(c2, "InvocationID", CABLE)
    c2.kill_pluto()
    await_condition(
        c2, lambda: unit_property(c2, "InvocationID", CABLE) not in ("", before), "a restart"
    )
    await_condition(c2, partial(is_active, c2), "the cable")
    await_traffic(c2)


def settled_sas(gateway: Gateway) -> set[str]:
    """Return the SPIs once they stay: after a kill of pluto the peer may negotiate anew as well."""
    found, before = sas(gateway), set[str]()
    while found != before:
        time.sleep(8)
        found, before = sas(gateway), found
    return found


def test_a_killed_watch_is_started_again_and_the_sas_stay(
    gateways: tuple[Gateway, Gateway],
) -> None:
    _, c2 = gateways
    spis, before = settled_sas(c2), unit_property(c2, "MainPID", CABLE)
    systemctl(c2, "kill", "--signal", "KILL", "--kill-who", "main", CABLE)
    await_condition(
        c2, lambda: unit_property(c2, "MainPID", CABLE) not in ("0", before), "another watch"
    )
    await_condition(c2, partial(is_active, c2), "the cable")
    assert sas(c2) == spis
    assert systemctl(c2, "reload", CABLE).returncode == 0
    await_traffic(c2)


def test_a_stopped_unit_leaves_nothing_behind(gateways: tuple[Gateway, Gateway]) -> None:
    for gateway in gateways:
        assert systemctl(gateway, "stop", CABLE).returncode == 0
        assert unit_property(gateway, "ActiveState", CABLE) == "inactive"
        assert unit_property(gateway, "Result", CABLE) == "success"
        left = gateway.snapshot()
        assert "vxlan" not in left["links"]
        assert not left["connections"]
        assert "172.18.0" not in left["policies"]  # pluto's own policies name no host
        assert not left["nftables"]
        assert ".secrets" not in left["files"]
        assert ".guard" not in left["files"]
        assert unit_property(gateway, "ActiveState", GUARD) == "inactive"
        assert unit_property(gateway, "Result", GUARD) == "success"


def test_the_unit_imports_certificates(gateways: tuple[Gateway, Gateway]) -> None:
    above = new_authority()
    before = [nss(gateway) for gateway in gateways]
    for gateway in gateways:
        gateway.write(FILE, certs.document())
        hand_out(gateway, issue(above, NAME[gateway.name]), trusted=above)
    for gateway in gateways:
        systemctl(gateway, "start", "--no-block", CABLE)
    for gateway in gateways:
        await_condition(gateway, partial(is_active, gateway), "the cable")
    await_traffic(gateways[0])
    for gateway in gateways:
        assert systemctl(gateway, "stop", CABLE).returncode == 0
    assert [nss(gateway) for gateway in gateways] == before


def test_the_unit_of_a_server_is_active_while_its_client_is_away(
    gateways: tuple[Gateway, Gateway],
) -> None:
    _, c2 = gateways
    c2.write(FILE, document("tunnel v4 server") + AGREED)
    c2.write(f"/etc/systemd/system/{CABLE}.d/timeout.conf", IMPATIENT, 0o644)
    systemctl(c2, "daemon-reload")
    assert systemctl(c2, "start", CABLE).returncode == 0
    assert unit_property(c2, "ActiveState", CABLE) == "active"
    assert "submariner-cable-cluster1" in c2.snapshot()["connections"]
    assert systemctl(c2, "stop", CABLE).returncode == 0
    assert not c2.snapshot()["connections"]
