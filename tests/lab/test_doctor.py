"""Hosts that break while a cable is up: `doctor` names the cause of each."""

from __future__ import annotations

import re
import stat
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address

import pytest

from tests.support.examples import load

from .cable import (
    FILE,
    PSK,
    PSK_FILE,
    bring_up,
    child_sas,
    connections,
    prepare,
    run,
    tear_down,
)
from .doctor import Cause, Record, assert_named, by_shell, doctor, firewall, score
from .gateways import Gateway, Lab
from .inject import of_overlay, send
from .rooms import until
from .traffic import changes

pytestmark = pytest.mark.lab


@contextmanager
def one_child_sa_of_two(lab: Lab) -> Iterator[None]:
    """Terminate the Child SA of the connection that doesn't have the IKE SA.

    Meanwhile IPv6 is off on the peer's device: a packet would make pluto negotiate the SA again.
    """
    c1, c2 = lab.gateways
    name = connections(c1)[0]
    c2.run("sh", "-c", f"echo 1 >{NO_IPV6}")
    c1.whack("--terminate", "--name", name)
    try:
        yield
    finally:
        c2.run("sh", "-c", f"echo 0 >{NO_IPV6}")
        c1.whack("--initiate", "--name", name)
        until(lambda: name in child_sas(c1), "the Child SA")


@contextmanager
def another_vni(lab: Lab) -> Iterator[None]:
    """Give the peer another VNI; both devices are new, so they have received no packet yet."""
    c1, c2 = lab.gateways
    text = c2.read(FILE)

    def remake_device(gateway: Gateway, file: str) -> int:
        gateway.ip("link delete vxlan-tunnel")
        gateway.write(FILE, file)
        return run(gateway, "connect", FILE, "--timeout", "20").returncode

    # No echo comes back: exit code 4.
    assert remake_device(c2, f"{text}vxlan: {{vni: 2000}}\n") == 4
    # After c2, whose old device could still send to this one.
    assert remake_device(c1, text) == 4
    try:
        yield
    finally:
        assert remake_device(c2, text) == 0


@contextmanager
def attacked(lab: Lab) -> Iterator[None]:
    """Send three clear packets to the overlay."""
    c1, c2 = lab.gateways[:2]
    send(c2, c1, of_overlay(load("quickstart"), IPv4Address("172.18.0.66")), 3)
    yield


NO_IPV6 = "/proc/sys/net/ipv6/conf/vxlan-tunnel/disable_ipv6"
RP_FILTER = "/proc/sys/net/ipv4/conf/vxlan-tunnel/rp_filter"
TABLE = "inet cablectl_vxlan-tunnel"
FDB = "02:ca:ac:12:00:07 dev vxlan-tunnel dst 172.18.0.7 self permanent"
# ESP in UDP; a packet that begins with four zero bytes is IKE (RFC 3948, section 2.2).
ESP = "udp dport 4500 @th,64,32 != 0 drop"

WHILE_UP = {
    "PSK readable by all": Cause(
        by_shell(f"chmod 644 {PSK_FILE}", f"chmod 600 {PSK_FILE}"),
        "warn",
        "key",
        ("can be read by others than root", "chmod 600"),
    ),
    "guard flushed": Cause(
        by_shell(f"nft list table {TABLE} >/tmp/t; nft delete table {TABLE}", "nft -f /tmp/t"),
        "fail",
        "cable",
        ("the guard is missing", "cablectl connect"),
    ),
    "FDB entry missing": Cause(
        by_shell(f"bridge fdb delete {FDB}", f"bridge fdb append {FDB}"),
        "fail",
        "cable",
        ("vxlan-tunnel has no forwarding entry for 02:ca:ac:12:00:07 to 172.18.0.7",),
    ),
    "MTU too big": Cause(
        by_shell("ip link set vxlan-tunnel mtu 1450", "ip link set vxlan-tunnel mtu 1408"),
        "fail",
        "cable",
        ("the MTU 1450 is too large: path and SAs allow at most 1408",),
    ),
    "rp_filter strict": Cause(
        by_shell(f"echo 1 >{RP_FILTER}", f"echo 2 >{RP_FILTER}"),
        "warn",
        "rp_filter",
        ("rp_filter is strict on vxlan-tunnel", "rp_filter=2"),
    ),
    "UDP 4500 dropped here": Cause(
        firewall("udp dport 4500 drop"),
        "fail",
        "firewall",
        ("may drop UDP 4500 from 172.18.0.7: table inet fw, chain c: udp dport 4500 drop",),
    ),
    "UDP 4500 dropped": Cause(
        firewall("udp dport 4500 drop", gateway=1),
        "fail",
        "peer",
        ("172.18.0.7 UDP 4500 doesn't respond, but UDP 500 does", "allow this port"),
    ),
    "ESP dropped": Cause(
        firewall(ESP, gateway=1),
        "fail",
        "traffic",
        ("241.18.0.7 answers no ping", "no answer came back", "no firewall drops ESP"),
    ),
    "one Child SA of two": Cause(
        one_child_sa_of_two,
        "fail",
        "cable",
        ("connection 0 has no Child SA for what the local VTEP receives",),
    ),
    "peer on another VNI": Cause(
        another_vni,
        "fail",
        "traffic",
        (
            "the SAs receive packets, but vxlan-tunnel has received 0",
            "use the same VNI or key",
        ),
    ),
    "clear text from others": Cause(
        attacked, "warn", "guard", ("has dropped 3 incoming and 0 outgoing packets in clear text",)
    ),
}


@pytest.fixture(scope="class")
def up(lab: Lab) -> Iterator[Lab]:
    """Two gateways whose cable is up."""
    for gateway in lab.gateways:
        prepare(gateway)
    bring_up(*lab.gateways)
    yield lab
    tear_down(*lab.gateways)


class TestWhileUp:
    def test_a_healthy_cable(self, up: Lab) -> None:
        """doctor reports no failure, and changes nothing."""
        before = [gateway.snapshot() for gateway in up.gateways]
        for gateway in up.gateways:
            code, findings = doctor(gateway)
            assert [finding for finding in findings if finding["state"] == "fail"] == []
            assert code == 0
        for gateway, snapshot in zip(up.gateways, before, strict=True):
            assert changes(snapshot, gateway.snapshot()) == ""

    @pytest.mark.parametrize("cause", WHILE_UP)
    def test_a_host_that_breaks(self, up: Lab, cause: str, record_property: Record) -> None:
        assert_named(up, cause, WHILE_UP[cause], record_property)

    def test_the_report_holds_no_key(self, up: Lab) -> None:
        """The report has neither the pre-shared key, in text or hex, nor an SA's key."""
        c1 = up.gateways[0]
        done = run(c1, "doctor", FILE, "--report", "/etc/report.tar.gz")
        assert "the report is in /etc/report.tar.gz, mode 0600" in done.stderr
        report = c1.path("/etc/report.tar.gz")
        assert stat.S_IMODE(report.stat().st_mode) == 0o600
        with tarfile.open(report) as archive:
            files = {member.name: archive.extractfile(member) for member in archive.getmembers()}
            texts = {name: file.read().decode() for name, file in files.items() if file}
        assert {name.removeprefix("report/") for name in texts} >= {
            *("doctor.json", "plan.json", "status.json", "pluto.log", "pluto.txt", "xfrm.txt"),
        }
        assert "STATE_V2_ESTABLISHED_CHILD_SA" in texts["report/pluto.txt"]
        assert "spi 0x" in texts["report/xfrm.txt"]
        keys = re.findall(r"0x[0-9a-f]{32,}", c1.run("ip", "xfrm", "state").stdout)
        assert len(keys) >= 4  # one for each direction of each connection
        for key in (PSK, PSK.encode().hex(), *keys):
            assert [name for name, text in texts.items() if key in text] == []


def test_the_score(record_property: Record) -> None:
    score(WHILE_UP, record_property)
