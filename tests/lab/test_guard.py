"""Fail closed: no clear packet of the overlay enters or leaves a gateway, whatever happens."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from cablectl.linux import guard
from tests.support.examples import load

from .cable import FILE, VTEP, bring_up, child_sas, connections, ping, prepare, run, sas, tear_down
from .counters import dropped, echo_requests
from .gateways import Gateway, Lab
from .inject import of_overlay, send
from .rooms import until

pytestmark = pytest.mark.lab

Record = Callable[[str, object], None]
COUNT = 20  # packets of an attacker
PEER = IPv4Address("172.18.0.7")
OUTSIDER = IPv4Address("172.18.0.66")


@pytest.fixture
def pair(lab: Lab) -> Iterator[Lab]:
    """Gateways with the file; after the test, pluto runs and there is no cable."""
    for gateway in lab.gateways[:2]:
        prepare(gateway)
    yield lab
    for gateway in lab.gateways[:2]:
        prepare(gateway)
        if gateway.run("ipsec", "whack", "--status", check=False).returncode:
            gateway.start_pluto()
    tear_down(*lab.gateways[:2])


def test_no_clear_packet_gets_in(pair: Lab, record_property: Record) -> None:
    """Senders: an outsider with its own address, an outsider with the peer's, and the peer."""
    c1, c2 = pair.gateways[:2]
    outsider = pair.gateway("outsider", f"{OUTSIDER}/16", "2001:db8::66/64")
    cable = load("quickstart")
    bring_up(c1, c2)
    assert ping(c1).returncode == 0
    before = echo_requests(c1)
    for sender, source in ((outsider, OUTSIDER), (outsider, PEER), (c2, PEER)):
        expected = dropped(c1, cable)[0] + COUNT
        send(sender, c1, of_overlay(cable, source), COUNT)
        until(lambda: dropped(c1, cable)[0] == expected, f"{COUNT} dropped packets")  # noqa: B023
    assert echo_requests(c1) == before
    record_property("packets injected, of three senders", 3 * COUNT)
    record_property("of these on the overlay", echo_requests(c1) - before)
    # Without the guard the packets get in, so the count above proves something.
    c1.run("nft", "delete", "table", *guard.name(cable).split())
    send(outsider, c1, of_overlay(cable, OUTSIDER), COUNT)
    until(lambda: echo_requests(c1) == before + COUNT, f"{COUNT} packets of an outsider")
    repaired = run(c1, "connect", FILE)
    assert repaired.returncode == 0, repaired.stderr
    assert "warning: the guard is missing: table inet cablectl_" in repaired.stderr
    send(outsider, c1, of_overlay(cable, OUTSIDER), COUNT)
    until(lambda: dropped(c1, cable)[0] == COUNT, f"{COUNT} dropped packets")
    assert echo_requests(c1) == before + COUNT


def test_nothing_leaves_in_clear_text_whatever_happens(pair: Lab, record_property: Record) -> None:
    """Pings run in both directions all the time; after each event traffic flows again."""
    c1, c2 = pair.gateways[:2]
    cable = load("quickstart")
    with pair.capture() as wire:
        with traffic(c1), traffic(c2):
            bring_up(c1, c2)
            await_answer(c1)

            spis = sas(c1)
            for name in connections(c1):
                c1.whack("--rekey-ipsec", "--name", name)
            c1.whack("--rekey-ike", "--name", connections(c1)[0])
            until(lambda: not sas(c1) & spis, "new SAs for both connections", 30)
            await_answer(c1)

            c1.run("ip", "xfrm", "policy", "flush")
            before = dropped(c1, cable)[1]
            until(lambda: dropped(c1, cable)[1] > before, "outgoing packets that are dropped", 30)
            repair(c1)

            c1.stop_pluto()
            c1.start_pluto()
            repair(c1)

            c1.kill_pluto()
            c1.start_pluto()
            repair(c1)

            c2.ip("link set eth0 down")
            until(lambda: ping(c1).returncode != 0, "no answer")
            c2.ip("link set eth0 up", "route replace default via 172.18.255.254")
            await_answer(c1)

            tear_down(c1, c2)
        summary = wire.summary()
    assert summary["overlay"].frames == 0
    assert summary["esp-in-udp"].frames > 100
    record_property("frames of the overlay in clear text", summary["overlay"].frames)
    record_property("frames of ESP meanwhile", summary["esp-in-udp"].frames)


def test_the_device_sends_nothing_but_ip(pair: Lab) -> None:
    """The kernel asks by ARP for a VTEP that isn't in the file; the guard drops the frame."""
    c1, c2 = pair.gateways[:2]
    cable = load("quickstart")
    bring_up(c1, c2)
    before = dropped(c1, cable)[1]
    unknown = c1.run("ping", "-c", "1", "-W", "1", "241.18.0.99", check=False)
    assert unknown.returncode != 0
    assert dropped(c1, cable)[1] > before
    assert ping(c1).returncode == 0


def await_answer(gateway: Gateway) -> None:
    """Wait until the peer answers a ping over the overlay."""
    until(lambda: ping(gateway).returncode == 0, "an answer over the overlay", 60)


def repair(gateway: Gateway) -> None:
    """Connect again, and wait until traffic flows."""
    done = run(gateway, "connect", FILE)
    assert done.returncode == 0, done.stderr
    assert set(child_sas(gateway)) == set(connections(gateway))
    await_answer(gateway)


@contextmanager
def traffic(gateway: Gateway) -> Iterator[None]:
    """Ping the other VTEP all the time, also while no route leads to it."""
    peer = {"c1": "c2", "c2": "c1"}[gateway.name]
    script = f"while :; do ping -c 1000 -i 0.05 -W 1 {VTEP[peer]}; sleep 0.05; done"
    with gateway.popen("sh", "-c", f"{script} >/dev/null 2>&1") as process:
        try:
            yield
        finally:
            process.kill()
