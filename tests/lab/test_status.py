"""The status of a cable on two real gateways, while it is up, broken and down."""

from __future__ import annotations

import json
import signal
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from cablectl.libreswan.dialects import Version
from tests.support.places import ROOT

from .cable import FILE, bring_up, connections, ping, prepare, run, tear_down
from .gateways import Gateway, Lab
from .releases import added
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

SCHEMA = json.loads((ROOT / "docs" / "status.schema.json").read_text())
GUARD = "inet cablectl_vxlan-tunnel"
# Commands that break c1's end → the reason that status then gives; connect repairs all of them.
FAULTS = (
    {
        "ip link set vxlan-tunnel mtu 1412": "the MTU 1412 is too large: path and SAs allow",
        "bridge fdb delete 02:ca:ac:12:00:07 dev vxlan-tunnel": "vxlan-tunnel has no forwarding ",
        "ip neigh delete 241.18.0.7 dev vxlan-tunnel": "vxlan-tunnel has no neighbour 241.18.0.7",
        "ip route delete 10.45.0.0/16 table 24141": "the route to 10.45.0.0/16 through vxlan-",
        f"nft delete table {GUARD}": f"the guard is missing: table {GUARD}",
    },
    {"ip link set vxlan-tunnel down": "the device vxlan-tunnel is down"},
    {
        "ip xfrm policy flush": "connection 1 has no policy in the kernel, but pluto believes that"
        " it has"
    },
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Repeat the tests for each Libreswan of LAB_RELEASES."""
    if added():
        names = ["4.10", *added()]
        lanes = [(name, name) for name in names]
        metafunc.parametrize("lab", lanes, indirect=True, ids=names, scope="module")


def cable_status(gateway: Gateway, *args: str) -> dict[str, Any]:
    """Return the status of the gateway's only cable; the JSON must fit its schema."""
    done = run(gateway, "status", *args, "--format", "json")
    assert done.stderr == ""
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    (cable,) = report["result"]["cables"]
    assert isinstance(cable, dict)
    assert done.returncode == (cable["verdict"] != "up")
    return cable


def carried_bytes(cable: dict[str, Any]) -> list[int]:
    """Return the bytes that all SAs of the cable carried, in and out."""
    sas = [sa for connection in cable["connections"] for sa in connection["child_sas"]]
    return [sum(sa["bytes_in"] for sa in sas), sum(sa["bytes_out"] for sa in sas)]


def test_from_nothing_to_up_and_back(lab: Lab) -> None:
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
        assert_no_cable(gateway)
    bring_up(c1, c2)
    try:
        for gateway in lab.gateways:
            silence(gateway)
            assert_up_and_counting(gateway)
        assert_metrics(c1)
        assert_watch(c1)
        if c2.release() < Version(5, 0):  # 5.x negotiates at once again
            assert_one_child_sa_of_two(c2, c1)
        for faults in FAULTS:
            assert_degraded_and_repaired(c1, faults)
        assert_down_without_sas(c1)
        assert_down_after_pluto_restarts(c1)
    finally:
        tear_down(c1, c2)
    for gateway in lab.gateways:
        assert_no_cable(gateway)


def silence(gateway: Gateway) -> None:
    """Keep IPv6 from sending packets by itself, for which pluto would negotiate a Child SA."""
    gateway.run("sh", "-c", "echo 1 >/proc/sys/net/ipv6/conf/vxlan-tunnel/disable_ipv6")


def assert_no_cable(gateway: Gateway) -> None:
    cable = cable_status(gateway, FILE)
    assert (cable["verdict"], cable["reasons"]) == ("down", ["this host has nothing of the cable"])
    done = run(gateway, "status")
    assert (done.returncode, done.stdout) == (1, "no cable on this host\n")


def assert_up_and_counting(gateway: Gateway) -> None:
    """The status with the file and without the file, from the host's traces, is the same."""
    before, without_file = cable_status(gateway, FILE), cable_status(gateway)
    for cable in (before, without_file):
        assert (cable["verdict"], cable["reasons"], cable["ike"]) == ("up", [], "established")
        names = [connection["name"] for connection in cable["connections"]]
        assert names == connections(gateway)
        assert cable["overlay"]["mtu"] == cable["overlay"]["largest_mtu"] == 1408
        assert cable["guard"]["whole"]
        for connection in cable["connections"]:
            (sa,) = connection["child_sas"]
            assert 0 <= sa["age"] < 120
            assert 20_000 < sa["rekey_in"] < 28_800
    assert without_file["overlay"] == before["overlay"]
    assert ping(gateway, "-c", "5", "-s", "1000").returncode == 0
    after = cable_status(gateway, FILE)
    counts = zip(carried_bytes(before), carried_bytes(after), strict=True)
    assert all(new - old > 5 * 1000 for old, new in counts)
    table = run(gateway, "status").stdout
    assert table.startswith(f"{before['cable']}  up\n  peer ")


def assert_metrics(gateway: Gateway) -> None:
    done = run(gateway, "status", "--format", "prometheus")
    assert done.returncode == 0
    families = {family.name: family for family in text_string_to_metric_families(done.stdout)}
    states = families["cablectl_cable_state"].samples
    assert [sample.labels["state"] for sample in states if sample.value] == ["up"]
    received = families["cablectl_received_bytes"].samples
    assert sum(sample.value for sample in received) > 5 * 1000


def assert_watch(gateway: Gateway) -> None:
    """A report every two seconds, with rates from the second report on; Ctrl-C ends it."""
    with gateway.popen(PROGRAM, "status", "--watch", "--format", "json") as watch:
        assert watch.stdout
        first = json.loads(watch.stdout.readline())
        assert ping(gateway, "-s", "1000").returncode == 0
        second = json.loads(watch.stdout.readline())
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=60)
    assert watch.returncode == 130
    assert rates(first) == {None}
    assert max(rate or 0 for rate in rates(second)) > 2 * 1000 / 60
    jsonschema.validate(second, SCHEMA)


def rates(report: dict[str, Any]) -> set[float | None]:
    (cable,) = report["result"]["cables"]
    """Return the outgoing rates of all SAs, in bytes a second; None if a rate isn't known."""
    sas = [sa for connection in cable["connections"] for sa in connection["child_sas"]]
    return {sa["rate_out"] for sa in sas}


def assert_degraded_and_repaired(gateway: Gateway, faults: dict[str, str]) -> None:
    for command in faults:
        gateway.run(*command.split())
    cable = cable_status(gateway, FILE)
    assert cable["verdict"] == "degraded"
    for reason in faults.values():
        assert any(text.startswith(reason) for text in cable["reasons"]), cable["reasons"]
    repair(gateway)


def repair(gateway: Gateway) -> None:
    """Connect again; the status then has no reason left."""
    done = run(gateway, "connect", FILE)
    assert done.returncode == 0, done.stderr
    assert cable_status(gateway, FILE)["reasons"] == []


def assert_one_child_sa_of_two(gateway: Gateway, peer: Gateway) -> None:
    """If the initiator terminates a Child SA, 4.10 negotiates a new one for the next packet."""
    gateway.whack("--terminate", "--name", connections(gateway)[1])
    for args in ((FILE,), ()):
        local, remote = cable_status(gateway, *args), cable_status(peer, *args)
        assert local["verdict"] == remote["verdict"] == "degraded"
        assert local["reasons"] == ["connection 1 has no Child SA for what the local VTEP sends"]
        assert remote["reasons"] == [
            "connection 0 has no Child SA for what the local VTEP receives"
        ]
        assert [len(connection["child_sas"]) for connection in local["connections"]] == [1, 0]
    assert "  1           none\n" in run(gateway, "status").stdout
    repair(gateway)


def assert_down_without_sas(gateway: Gateway) -> None:
    """Without SAs in the kernel the cable is down, though pluto has SAs; connect makes new SAs."""
    gateway.ip("xfrm state flush")
    cable = cable_status(gateway, FILE)
    assert cable["verdict"] == "down"
    assert (
        cable["reasons"][0]
        == "connection 0 has no SA in the kernel, but pluto believes that it has"
    )
    repair(gateway)
    assert ping(gateway).returncode == 0


def assert_down_after_pluto_restarts(gateway: Gateway) -> None:
    """A new pluto has no connections; without the file, the secrets file shows the cable."""
    gateway.stop_pluto()
    assert cable_status(gateway)["reasons"] == ["pluto isn't running"]
    assert cable_status(gateway, FILE)["reasons"][0].startswith("pluto isn't running")
    gateway.start_pluto()
    for args in ((FILE,), ()):
        cable = cable_status(gateway, *args)
        assert (cable["verdict"], cable["reasons"]) == (
            "down",
            ["no connection of the cable is loaded"],
        )


def test_another_programs_device_or_connections_are_foreign(lab: Lab) -> None:
    """They have exactly the cable's names; status changes nothing."""
    c1 = lab.gateways[0]
    prepare(c1)
    c1.ip("link add vxlan-tunnel type vxlan id 1000 dstport 4789 local 172.18.0.8")
    before = c1.snapshot()
    cable = cable_status(c1, FILE)
    assert (cable["verdict"], cable["reasons"]) == (
        "foreign",
        ["the device vxlan-tunnel exists, but cablectl didn't make it"],
    )
    assert c1.snapshot() == before
    c1.ip("link delete vxlan-tunnel")
    dry = run(c1, "plan", FILE, "--dry-run").stdout.splitlines()
    for line in dry:
        if "whack --psk" in line:
            c1.run("sh", "-c", line)
    for args in ((FILE,), ()):
        cable = cable_status(c1, *args)
        assert (cable["verdict"], cable["reasons"]) == (
            "foreign",
            ["connections with these names are loaded, but cablectl didn't load them"],
        )
    for name in connections(c1):
        c1.whack("--delete", "--name", name)


def test_a_cable_that_is_being_negotiated(lab: Lab) -> None:
    """The end with the lower address initiates, and the peer has no connection yet."""
    c2 = lab.gateways[1]
    prepare(c2)
    with c2.popen(PROGRAM, "connect", FILE) as connect:
        assert connect.stderr
        next(line for line in connect.stderr if "] wait: " in line)
        assert cable_status(c2, FILE)["verdict"] == "connecting"
        assert cable_status(c2)["verdict"] == "connecting"
        connect.send_signal(signal.SIGINT)
        assert connect.wait(60) == 130
