"""The unit under a real systemd, in its whole sandbox: the cable comes with the host, and stays."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from tests.support.documents import AGREED, document

from .booted import booted, comes, configure, shown, systemctl
from .cable import FILE, PSK, PSK_FILE, child_sas, connections, ping
from .gateways import Gateway, Lab
from .rooms import LabError

pytestmark = pytest.mark.lab

CABLE = "cablectl@cable.service"


@pytest.fixture(scope="module")
def hosts() -> Iterator[tuple[Gateway, Gateway]]:
    """A Debian 12 and a Debian 13 that boot with the unit enabled; the second has no key yet."""
    with ExitStack() as stack:
        try:
            lab = stack.enter_context(Lab())
            for name, last, release in (("c1", 8, "4.10"), ("c2", 7, "5.2")):
                gateway = lab.gateway(name, f"172.18.0.{last}/16", release=release)
                configure(gateway)
                gateway.write(FILE, document("transport vxlan v4") + AGREED)
                systemctl(gateway, "enable", CABLE)
            c1, c2 = lab.gateways
            c1.write(PSK_FILE, PSK)
            for gateway in lab.gateways:
                stack.enter_context(booted(gateway))
        except LabError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        yield c1, c2


def is_up(gateway: Gateway) -> bool:
    return shown(gateway, "ActiveState", CABLE) == "active"


def carries(gateway: Gateway) -> bool:
    return child_sas(gateway) == connections(gateway) and ping(gateway).returncode == 0


def test_it_comes_up_with_the_host_and_one_without_its_key_tries_again(
    hosts: tuple[Gateway, Gateway],
) -> None:
    c1, c2 = hosts
    comes(c2, lambda: shown(c2, "SubState", CABLE) == "auto-restart", "a failure")
    assert shown(c2, "ExecMainStatus", CABLE) == "3"
    c2.write(PSK_FILE, PSK)
    for gateway in hosts:
        comes(gateway, partial(is_up, gateway), "the cable")
    assert carries(c1)
    assert carries(c2)


def test_it_goes_with_a_pluto_that_is_killed_and_comes_back_with_it(
    hosts: tuple[Gateway, Gateway],
) -> None:
    _, c2 = hosts
    before = shown(c2, "InvocationID", CABLE)
    c2.kill_pluto()
    comes(c2, lambda: shown(c2, "InvocationID", CABLE) not in ("", before), "a restart")
    comes(c2, partial(is_up, c2), "the cable")
    assert carries(c2)


def test_stopped_it_leaves_nothing_behind(hosts: tuple[Gateway, Gateway]) -> None:
    for gateway in hosts:
        assert systemctl(gateway, "stop", CABLE).returncode == 0
        assert shown(gateway, "ActiveState", CABLE) == "inactive"
        assert shown(gateway, "Result", CABLE) == "success"
        left = gateway.snapshot()
        assert "vxlan" not in left["links"]
        assert not left["connections"]
        assert "172.18.0" not in left["policies"]  # pluto's own are of no host
        assert not left["nftables"]
        assert ".secrets" not in left["files"]
