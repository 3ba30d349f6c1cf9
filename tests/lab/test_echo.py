"""Echoes through a real cable: their RTT and loss, and which direction is dead."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from statistics import fmean, median
from typing import Any

import pytest

from .cable import CLUSTER, FILE, bring_up, prepare, run, tear_down
from .gateways import Gateway, Lab
from .rooms import until

pytestmark = pytest.mark.lab

Record = Callable[[str, object], None]
DELAY, LOSS = 0.050, 0.10  # seconds; a fraction of the echoes
# The loss of N echoes has the standard deviation sqrt(LOSS * (1 - LOSS) / N): of 14,400 echoes it
# is 0.0025. So it is within a tenth of LOSS, which are four deviations, but once in 16,000 tests.
ECHOES = 14_400
PACE = 0.004  # seconds between two echoes
BEGIN = f"""
import json, sys, time
from pathlib import Path
from cablectl.config import native
from cablectl.host import daemon, health_state
from cablectl.host.echoes import Echoes
from cablectl.model.health_check import HealthCheck
from cablectl.status.health import EchoRecord
network = native.parse(Path("{FILE}").read_text(), "{FILE}")
(cable,) = network.cables(network.named(sys.argv[1]))
source, target = cable.echo_ends
record = EchoRecord(HealthCheck(interval=1), cable.echo_ends)
"""
# Sends many echoes; prints what the record has in the end, and all RTTs.
MANY = f"""{BEGIN}
def receive():
    for answer in echoes.receive():
        record.answered(answer.sequence, answer.rtt)
        rtts.append(answer.rtt)
rtts = []
with Echoes([4]) as echoes:
    for _ in range({ECHOES}):
        assert echoes.send(source, target, record.sequence)
        record.sent(time.monotonic())
        receive()
        time.sleep({PACE})
    time.sleep(4)
    receive()
state = record.state(time.monotonic())
told = [state.sent, state.answered, state.window, state.loss, state.rtt_mean, state.jitter]
print(json.dumps([*told, rtts]))
"""
# Watches the cable: an echo in each second. Writes what the record tells.
WATCH = f"""{BEGIN}
with Echoes([4]) as echoes:
    while True:
        if echoes.send(source, target, record.sequence):
            record.sent(time.monotonic())
        time.sleep(1)
        for answer in echoes.receive():
            record.answered(answer.sequence, answer.rtt)
        loaded = daemon.pluto_status().connections
        now = time.monotonic()
        record.look([sa for name in cable.names for sa in loaded[name].child_sas], now)
        health_state.write("lab", {{cable.id: record.state(now)}}, time.time())
"""


@pytest.fixture
def pair(lab: Lab) -> Iterator[tuple[Gateway, Gateway]]:
    """Gateways whose cable is up; nothing delays or drops packets after the test."""
    c1, c2 = lab.gateways
    for gateway in (c1, c2):
        prepare(gateway)
    bring_up(c1, c2)
    yield c1, c2
    for gateway in (c1, c2):
        gateway.run("tc", "qdisc", "del", "dev", "eth0", "root", check=False)
        gateway.run("nft", "delete", "table", "ip", "lab", check=False)
    tear_down(c1, c2)


def status(gateway: Gateway) -> dict[str, Any]:
    """Return the state of the gateway's only cable."""
    done = run(gateway, "status", FILE, "--local", CLUSTER[gateway.name], "--format", "json")
    (cable,) = json.loads(done.stdout)["result"]["cables"]
    assert isinstance(cable, dict)
    return cable


def test_rtt_and_loss_are_those_of_the_path(
    pair: tuple[Gateway, Gateway], record_property: Record
) -> None:
    c1, _ = pair
    netem = ("netem", "delay", f"{DELAY}s", "loss", f"{LOSS:%}", "limit", "10000")
    c1.run("tc", "qdisc", "add", "dev", "eth0", "root", *netem)
    done = c1.run(sys.executable, "-c", MANY, CLUSTER[c1.name], timeout=300)
    sent, answered, window, window_loss, window_mean, jitter, rtts = json.loads(done.stdout)
    loss, middle = 1 - answered / sent, median(rtts)  # a busy machine makes single echoes late
    record_property("echoes: loss of 10 %", f"{loss:.2%}")
    record_property("echoes: RTT of 50 ms, in ms", f"{middle * 1000:.2f}")
    assert sent == ECHOES
    assert loss == pytest.approx(LOSS, rel=0.1)
    assert middle == pytest.approx(DELAY, rel=0.1)
    assert min(rtts) > 0.99 * DELAY  # no echo is answered before its time
    last = rtts[-round(window * (1 - window_loss)) :]
    assert window_mean == pytest.approx(fmean(last))
    assert 0 < jitter < max(rtts) - min(rtts)
    assert (window, window_loss < 0.28) == (100, True)  # six deviations of 100 echoes


def told(gateway: Gateway) -> tuple[str, str, str | None]:
    """Return the verdict of the gateway's cable, and what echoes tell."""
    cable = status(gateway)
    health = cable["health"] or {"health": "", "dead": None}
    return cable["verdict"], health["health"], health["dead"]


def test_the_dead_direction_is_named_at_both_ends(pair: tuple[Gateway, Gateway]) -> None:
    """c1's packets of ESP are lost on the way; then they aren't any more."""
    c1, c2 = pair
    assert [status(gateway)["health"] for gateway in pair] == [None, None]  # nobody watches
    drop = "table ip lab { chain in { type filter hook prerouting priority -500; udp dport 4500"
    with ExitStack() as running:
        for gateway in pair:
            argv = (sys.executable, "-c", WATCH, CLUSTER[gateway.name])
            running.callback(running.enter_context(gateway.popen(*argv)).terminate)
        answering = ("up", "answering", None)
        until(lambda: [*map(told, pair)] == [answering] * 2, "answers")
        c2.run("nft", f"{drop} drop; }}; }}")
        dead = [("degraded", "silent", "out"), ("degraded", "silent", "in")]
        until(lambda: [*map(told, pair)] == dead, "the dead direction")
        (reason,) = status(c1)["reasons"]
        assert reason.startswith("no echo comes back, but packets come in: packets to the peer")
        c2.run("nft", "delete", "table", "ip", "lab")
        until(lambda: [*map(told, pair)] == [answering] * 2, "answers again")
    until(lambda: told(c1) == ("up", "", None), "no health, since nobody watches")
