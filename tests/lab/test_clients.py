"""A server and three clients with one private address, each behind a box that masquerades."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import pytest

from tests.support.documents import AGREED

from . import boxes, extent
from .cable import FILE, PSK, PSK_FILE, run, sas, tear_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM
from .traffic import assert_encrypted, assert_reached, changes

pytestmark = pytest.mark.lab

RELEASES = {"server": "4.10", "c1": "4.10", "c2": "5.2", "c3": "4.10"}
TO_SERVER = (FILE, "--peer", "server", "--timeout", "40")


class Hub(NamedTuple):
    """The server and its clients; each has a host behind it. A client also has a box before it."""

    lab: Lab
    server: Gateway
    clients: tuple[Gateway, ...]
    boxes: tuple[Gateway, ...]
    hosts: tuple[Gateway, ...]  # the server's is the first

    @property
    def gateways(self) -> tuple[Gateway, ...]:
        return self.server, *self.clients


@pytest.fixture(scope="module")
def hub() -> Iterator[Hub]:
    with Lab() as lab:
        server = lab.gateway("server", "172.18.0.7/16", "2001:db8::7/64", RELEASES["server"])
        outside = tuple(
            lab.gateway(f"box{n}", f"172.18.0.{n}0/16", f"2001:db8::{n}0/64") for n in (1, 2, 3)
        )
        clients = tuple(
            lab.behind(f"c{n}", box, "10.0.0.4/24", release=RELEASES[f"c{n}"])
            for n, box in enumerate(outside, start=1)
        )
        hosts = tuple(
            lab.behind(f"host{n}", gateway, f"10.4{n}.0.9/16")
            for n, gateway in enumerate((server, *clients))
        )
        for box in outside:
            boxes.masquerade(box)
        for gateway in (server, *clients):
            gateway.start_pluto()
            gateway.write(PSK_FILE, f"{PSK}\n")
        yield Hub(lab, server, clients, outside, hosts)


def document(overlay: str) -> str:
    clients = "".join(
        f"  - {{cluster: c{n}, hostname: c{n}, address: 10.0.0.4, subnets: [10.4{n}.0.0/16]}}\n"
        for n in (1, 2, 3)
    )
    return (
        f"version: 1\nmode: tunnel\noverlay: {overlay}\nendpoints:\n"
        "  - {cluster: server, hostname: server, address: 172.18.0.7, subnets: [10.40.0.0/16],"
        f" preferred_server: true}}\n{clients}{AGREED}"
    )


def connect(*clients: Gateway) -> None:
    """Connect clients at once, to the server alone: they don't reach each other."""
    running = [client.popen(PROGRAM, "connect", *TO_SERVER) for client in clients]
    for process in running:
        _, err = process.communicate(timeout=150)
        assert process.returncode == 0, err


def assert_joined(hub: Hub, *numbers: int) -> None:
    """The hosts of these clients and the server's host reach each other."""
    for number in numbers:
        assert_reached(hub.hosts[number], "10.40.0.9")
        assert_reached(hub.hosts[0], f"10.4{number}.0.9")


def up(hub: Hub) -> list[str]:
    """Return the clients whose cables the server's status calls up."""
    return re.findall(
        r"^submariner-cable-(c\d)-\S+ +up$", run(hub.server, "status", FILE).stdout, re.MULTILINE
    )


@contextmanager
def torn_down(hub: Hub, overlay: str) -> Iterator[None]:
    """Write the file; after the block, tear everything down, and check wire and hosts."""
    for gateway in hub.gateways:
        gateway.write(FILE, document(overlay))
    before = [gateway.snapshot() for gateway in hub.gateways]
    with hub.lab.capture() as wire:
        try:
            yield
        finally:
            tear_down(*hub.gateways)
    after = [gateway.snapshot() for gateway in hub.gateways]
    assert [changes(*pair) for pair in zip(before, after, strict=True)] == [""] * 4
    assert_encrypted(wire)


@pytest.mark.skipif(not extent.ALL, reason="the other test has an overlay as well: make nat")
def test_between_subnets(hub: Hub) -> None:
    c1, *others = hub.clients
    with torn_down(hub, "none"):
        with hub.server.popen(PROGRAM, "connect", FILE) as server:
            connect(*hub.clients)
            _, err = server.communicate(timeout=150)
        assert server.returncode == 0, err
        assert_joined(hub, 1, 2, 3)
        # One goes and comes again: the others don't notice.
        kept = [sas(other) for other in others]
        assert run(c1, "teardown", *TO_SERVER[:3]).returncode == 0
        assert up(hub) == ["c2", "c3"]
        connect(c1)
        assert_joined(hub, 1, 2, 3)
        assert [sas(other) for other in others] == kept


def test_by_one_device(hub: Hub) -> None:
    c1, *others = hub.clients
    with torn_down(hub, "vxlan"):
        # One client is away: its cable waits.
        with hub.server.popen(PROGRAM, "connect", FILE, "--timeout", "30") as server:
            connect(*others)
            _, err = server.communicate(timeout=150)
        assert server.returncode == 5, err
        assert "1 of 3 cables waits for its client" in err
        assert_joined(hub, 2, 3)
        # It comes, and the server needs no other connect.
        connect(c1)
        assert_joined(hub, 1)
        assert up(hub) == ["c1", "c2", "c3"]
        assert run(hub.server, "connect", FILE).stdout.startswith("nothing to do: ")
        # It crashes, and its box gives it another port.
        kept = [sas(other) for other in others]
        c1.kill_pluto()
        boxes.forget_flows(hub.boxes[0])
        assert run(c1, "teardown", *TO_SERVER[:3]).returncode == 0
        c1.start_pluto()
        connect(c1)
        assert_joined(hub, 1, 2, 3)
        assert [sas(other) for other in others] == kept
