"""The routes' table and rule on a host that uses such tables itself, and after an upgrade."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from signal import SIGINT

import pytest

from tests.support.documents import document, shaped

from .cable import FILE, PSK, PSK_FILE, bring_up, run, tear_down
from .gateways import Gateway, Lab
from .traffic import changes

pytestmark = pytest.mark.lab

ROUTER = {4: "172.18.255.254", 6: "2001:db8::ffff:ffff:ffff:fffe"}
# A second uplink with policy routing, as its administrator makes it.
UPLINK = (
    "address add 192.168.2.254/24 dev eth0",
    "route add default via 192.168.2.1 dev eth0 table {table}",
    "rule add from 192.168.2.254 lookup {table}",
)
UPLINK_AWAY = (
    "rule delete from 192.168.2.254 lookup {table}",
    "route flush table {table}",
    "address delete 192.168.2.254/24 dev eth0",
)
SHAPES = ("transport vxlan v4", "transport vxlan v6", "transport gre v4")


@contextmanager
def second_uplink(lab: Lab, gateway: Gateway, table: int) -> Iterator[None]:
    """Give a gateway a second uplink, whose default route is in a table."""
    lab.switch.ip("address add 192.168.2.1/24 dev br0")
    gateway.ip(*(line.format(table=table) for line in UPLINK))
    try:
        yield
    finally:
        gateway.ip(*(line.format(table=table) for line in UPLINK_AWAY))
        lab.switch.ip("address delete 192.168.2.1/24 dev br0")


@contextmanager
def nothing_lost(gateway: Gateway, *pings: Sequence[str]) -> Iterator[None]:
    """Ping all along; AssertionError if one of the requests has no reply."""
    running = [gateway.popen("ping", "-i", "0.02", "-W", "5", *args) for args in pings]
    try:
        yield
    finally:
        for process in running:
            process.send_signal(SIGINT)
    for process, args in zip(running, pings, strict=True):
        output, _ = process.communicate(timeout=20)
        sent, received = map(
            int, re.findall(r"(\d+) packets transmitted, (\d+) received", output)[0]
        )
        assert sent > 20, output
        assert received == sent, (args, output[-500:])


def prepare(lab: Lab, shape: str) -> None:
    for gateway in lab.gateways:
        gateway.write(FILE, document(shape))
        gateway.write(PSK_FILE, f"{PSK}\n")


def test_a_host_that_uses_table_100_keeps_its_connectivity(lab: Lab) -> None:
    """Before, during and after connect and teardown: over both uplinks, and to a neighbour."""
    c1, c2 = lab.gateways
    prepare(lab, "transport vxlan v4")
    pings = (["-I", "192.168.2.254", ROUTER[4]], ["-I", "172.18.0.8", ROUTER[4]], ["172.18.0.7"])
    with second_uplink(lab, c1, 100):
        before = c1.snapshot()
        with nothing_lost(c1, *pings):
            bring_up(c1, c2)
            assert run(c1, "connect", FILE).stdout.startswith("nothing to do: ")
            assert run(c1, "status", FILE).returncode == 0
            tear_down(c1, c2)
        assert changes(before, c1.snapshot()) == ""


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(
    ("line", "undo", "message"),
    [
        (
            "{six} route add blackhole {net} table 24141",
            "{six} route delete blackhole {net} table 24141",
            "table 24141 has a route that cablectl didn't make: blackhole",
        ),
        (
            "{six} rule add from {net} lookup 24141 pref 9",
            "{six} rule delete pref 9",
            "a rule that cablectl didn't make has table 24141 or priority 241: 9: from ",
        ),
        (
            "{six} rule add fwmark 0x7 lookup 7 pref 241",
            "{six} rule delete fwmark 0x7 lookup 7 pref 241",
            "a rule that cablectl didn't make has table 24141 or priority 241: 241: from all",
        ),
    ],
)
def test_a_table_or_priority_of_another_program_is_refused(
    lab: Lab, shape: str, line: str, undo: str, message: str
) -> None:
    c1, _ = lab.gateways
    prepare(lab, shape)
    six = "v6" in shape
    words = {"six": "-6" if six else "", "net": "2001:db8:99::/48" if six else "10.99.0.0/16"}
    c1.run("sh", "-c", f"ip {line.format(**words)}")
    try:
        before = c1.snapshot()
        with nothing_lost(c1, [ROUTER[6 if six else 4]]):
            done = run(c1, "connect", FILE)
            found = run(c1, "doctor", FILE)
        assert done.returncode == 3, done.stderr
        assert message in done.stderr
        assert message in found.stdout.replace("\n", " ") or message[:20] in found.stdout
        assert changes(before, c1.snapshot()) == ""
    finally:
        c1.run("sh", "-c", f"ip {undo.format(**words)}")


def test_a_route_that_comes_later_is_a_fault(lab: Lab) -> None:
    c1, c2 = lab.gateways
    prepare(lab, "transport vxlan v4")
    bring_up(c1, c2)
    try:
        c1.ip("route add 10.99.0.0/16 via 172.18.255.254 table 24141")
        fault = "table 24141 has a route that cablectl didn't make: 10.99.0.0/16 via 172.18.255.254"
        for args in ((FILE,), ()):
            status = run(c1, "status", *args)
            assert status.returncode == 1
            assert fault in " ".join(status.stdout.split())
        assert run(c1, "connect", FILE).returncode == 3
    finally:
        tear_down(c1, c2)
    assert "10.99.0.0/16" in c1.run("ip", "route", "show", "table", "24141").stdout
    c1.ip("route delete 10.99.0.0/16 table 24141")


def earlier(gateway: Gateway, shape: str, local: str) -> None:
    """Put the cable's routes where an earlier cablectl had them."""
    cable = shaped(shape, local)
    assert cable.overlay
    six = "-6" if cable.local.address.version == 6 else "-4"
    device, via = cable.overlay.device, cable.remote_vtep.ip
    routes = [
        f"route {{}} {subnet} via {via} dev {device} table {{}} metric 100 proto 241"
        for subnet in cable.remote.networks
    ]
    gateway.run("ip", six, "rule", "add", *"from all lookup 100 pref 100 protocol 241".split())
    gateway.ip(*(route.format("add", 100) for route in routes))
    gateway.run("ip", six, "rule", "delete", "pref", "241")
    gateway.ip(*(route.format("delete", 24141) for route in routes))


@pytest.mark.parametrize("shape", SHAPES)
def test_routes_of_an_earlier_cablectl_are_moved(lab: Lab, shape: str) -> None:
    c1, c2 = lab.gateways
    prepare(lab, shape)
    before = [gateway.snapshot() for gateway in lab.gateways]
    target = str(shaped(shape).remote.networks[0][1])
    bring_up(c1, c2)
    try:
        for gateway, local in ((c1, "cluster1"), (c2, "cluster2")):
            earlier(gateway, shape, local)
        assert run(c1, "status").returncode == 0
        status = run(c1, "status", FILE)
        assert status.returncode == 1
        assert "left routes or a rule of table 100" in " ".join(status.stdout.split())
        with c2.holds(target), nothing_lost(c1, [target]):
            moved = run(c1, "connect", FILE)
        assert moved.returncode == 0, moved.stderr
        assert run(c1, "connect", FILE).stdout.startswith("nothing to do: ")
        assert run(c1, "status", FILE).returncode == 0
        assert c1.run("ip", "route", "show", "table", "100", check=False).stdout == ""
    finally:
        tear_down(c1, c2)  # c2 still has the old routes
    after = [gateway.snapshot() for gateway in lab.gateways]
    assert [changes(*each) for each in zip(before, after, strict=True)] == ["", ""]
