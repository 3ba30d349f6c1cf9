"""The metrics of a real cable while it is up, and while something is broken.

With LAB_RESULTS, each run is written there as a file of series, which the tests of the alarms
replay (`make alarms`): tests/captures/metrics has them.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from msgspec import json
from msgspec.structs import replace
from prometheus_client.parser import text_string_to_metric_families

from cablectl.linux import guard
from cablectl.model.health_check import HealthCheck
from cablectl.render.metrics import as_metrics
from cablectl.status.health import EchoRecord, with_health
from cablectl.status.report import StatusReport
from tests.support.certificates import authority
from tests.support.examples import load
from tests.support.metrics import Recording, checked

from . import certs
from .cable import FILE, VTEP, bring_up, ping, prepare, run, tear_down
from .certs import DIRECTORY, HOUR, NAME, hand_out, issue, now
from .doctor import firewall
from .gateways import Gateway, Lab
from .inject import of_overlay, send, send_udp

pytestmark = pytest.mark.lab

SCRAPES = 24
DAY = 24  # hours
ESP = "udp dport 4500 @th,64,32 != 0 drop"  # ESP in UDP, but not IKE (RFC 3948)
C1, PEER = IPv4Address("172.18.0.8"), IPv4Address("172.18.0.7")
UNKNOWN_SPI = bytes.fromhex("deadbeef00000001") + bytes(32)
Record = Callable[[str, object], None]


class Watch:
    """Scrapes of a gateway's only cable, with the echoes that a watch would send."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        ends = (IPv4Address(VTEP["c1"]), IPv4Address(VTEP["c2"]))
        self._record = EchoRecord(HealthCheck(interval=1, threshold=3), ends)

    def scrape(self) -> StatusReport:
        """Send an echo, wait for its answer, and return the state of the cable."""
        sequence = self._record.sequence
        self._record.sent(time.monotonic())
        answered = re.search(r"time=([\d.]+) ms", ping(self._gateway, "-c", "1", "-W", "1").stdout)
        if answered:
            self._record.answered(sequence, float(answered[1]) / 1000)
        told = json.decode(run(self._gateway, "status", FILE, "--format", "json").stdout)
        report = json.decode(json.encode(told["result"]), type=StatusReport)
        (cable,) = report.cables
        sas = [sa for connection in cable.connections for sa in connection.child_sas]
        at = time.monotonic()
        self._record.look(sas, at)
        return replace(report, cables=(with_health(cable, self._record.state(at)),))


def recorded(watch: Watch, name: str, event: Callable[[], object] = lambda: None) -> Recording:
    """Return the scrapes of a run, with an event before each; write it where results belong."""
    recording = Recording()
    for _ in range(SCRAPES):
        event()
        recording.add(text_string_to_metric_families(as_metrics(watch.scrape())))
    if results := os.environ.get("LAB_RESULTS"):
        Path(results, f"{name}.series").write_text(recording.as_text())
    return recording


@pytest.fixture
def pair(lab: Lab) -> Iterator[Lab]:
    """Two gateways with a cable, which is torn down at the end."""
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
        gateway.run("sysctl", "--quiet", "net.ipv6.conf.default.disable_ipv6=1")
    bring_up(c1, c2)
    yield lab
    tear_down(c1, c2)


def test_from_up_over_broken_to_down(pair: Lab, record_property: Record) -> None:
    c1, c2 = pair.gateways
    cable = load("quickstart")
    done = run(c1, "status", FILE, "--format", "prometheus")
    assert checked(done.stdout) == "", "promtool check metrics"

    watch = Watch(c1)
    up = recorded(watch, "up")
    assert set(up.of("cablectl_cable_state", state="up")) == {1}
    assert set(up.of("cablectl_health_loss_ratio")) == {0}
    assert 0 < up.of("cablectl_health_rtt_seconds")[-1] < 1
    assert up.of("cablectl_xfrm_errors_total", counter="XfrmInNoStates")[-1] >= 0

    with firewall(ESP, gateway=1)(pair):
        dead = recorded(watch, "one_way")
    assert dead.of("cablectl_cable_state", state="degraded")[-1] == 1
    assert dead.of("cablectl_health_loss_ratio")[-1] > 0.3

    c1.run("nft", "delete", "table", *guard.name(cable).split())
    missing = recorded(Watch(c1), "guard_missing")
    assert set(missing.of("cablectl_guard_up")) == {0}
    assert run(c1, "connect", FILE).returncode == 0

    def attack() -> None:
        send(c2, c1, of_overlay(cable, PEER), 5)
        send_udp(c2, C1, 4500, UNKNOWN_SPI, 20)

    attacked = recorded(Watch(c1), "attacked", attack)
    counted = attacked.of("cablectl_guard_dropped_packets_total", direction="in")
    assert counted[-1] - counted[0] >= 5 * (SCRAPES - 2)
    errors = attacked.of("cablectl_xfrm_errors_total", counter="XfrmInNoStates")
    assert errors[-1] - errors[0] >= 20 * (SCRAPES - 2)

    tear_down(c2)
    down = recorded(Watch(c1), "down")
    assert down.of("cablectl_cable_state", state="up")[-1] == 0
    assert down.of("cablectl_cable_state", state="degraded")[-1] == 0
    record_property("scrapes of a real cable", 5 * SCRAPES)


def test_certificates_that_end(lab: Lab) -> None:
    c1, c2 = lab.gateways
    above = authority("lab", begin=now() - 24 * HOUR, end=now() + 60 * DAY * HOUR)
    for gateway, days in ((c1, 5), (c2, 90)):
        own = issue(above, NAME[gateway.name], end=days * DAY)
        gateway.write(FILE, certs.document())
        hand_out(gateway, own, trusted=above)
    bring_up(c1, c2)
    try:
        found = recorded(Watch(c1), "certificates")
    finally:
        tear_down(c1, c2)
        for gateway in lab.gateways:
            gateway.run("sh", "-c", f"rm {DIRECTORY}/*.pem")
    name = "cablectl_certificate_expiry_timestamp_seconds"
    (at, *_) = found.of("cablectl_report_timestamp_seconds")
    for role, days in (("gateway", 5), ("authority", 60)):
        left = (found.of(name, certificate=role)[0] - at) / 86400
        assert days - 0.1 < left <= days
