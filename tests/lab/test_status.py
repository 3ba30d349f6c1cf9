"""What status says of a cable on two real gateways, whatever becomes of it."""

from __future__ import annotations

import json
import signal
from typing import Any

import jsonschema
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.places import ROOT

from .cable import FILE, connected, connections, ping, prepare, run, torn_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

SCHEMA = json.loads((ROOT / "docs" / "status.schema.json").read_text())
GUARD = "inet cablectl_vxlan-tunnel"
# What is done to c1's end by hand, each with what status then says of it; connect mends it.
FAULTS = (
    {
        "ip link set vxlan-tunnel mtu 1412": "the MTU 1412 is larger than the 1408 that path",
        "bridge fdb delete 02:ca:ac:12:00:07 dev vxlan-tunnel": "the FDB of vxlan-tunnel sends no",
        "ip neigh delete 241.18.0.7 dev vxlan-tunnel": "vxlan-tunnel has no neighbour 241.18.0.7",
        "ip route delete 10.45.0.0/16 table 100": "the route to 10.45.0.0/16 through vxlan-",
        f"nft delete table {GUARD}": f"the guard is missing: table {GUARD}",
    },
    {"ip link set vxlan-tunnel down": "the device vxlan-tunnel is down"},
    {
        "ip xfrm policy flush": "connection 1 has no policy in the kernel, but pluto believes that"
        " it has"
    },
)


def told(gateway: Gateway, *args: str) -> dict[str, Any]:
    """Return what status says of the gateway's one cable, in JSON that its schema allows."""
    done = run(gateway, "status", *args, "--format", "json")
    assert done.stderr == ""
    report = json.loads(done.stdout)
    jsonschema.validate(report, SCHEMA)
    (cable,) = report["result"]["cables"]
    assert isinstance(cable, dict)
    assert done.returncode == (cable["verdict"] != "up")
    return cable


def carried(cable: dict[str, Any]) -> list[int]:
    """Return the bytes in and out of all its SAs."""
    sas = [sa for each in cable["connections"] for sa in each["child_sas"]]
    return [sum(sa[f"bytes_{way}"] for sa in sas) for way in ("in", "out")]


def test_from_nothing_to_up_and_back(lab: Lab) -> None:
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        prepare(gateway)
        nothing_is_there(gateway)
    connected(c1, c2)
    try:
        for gateway in lab.gateways:
            is_up_and_counts(gateway)
        is_seen_by_prometheus(c1)
        is_watched(c1)
        one_child_sa_of_two(c2, c1)
        for faults in FAULTS:
            is_degraded_and_mended(c1, faults)
        no_sa_in_the_kernel(c1)
        pluto_is_started_anew(c1)
    finally:
        torn_down(c1, c2)
    for gateway in lab.gateways:
        nothing_is_there(gateway)


def nothing_is_there(gateway: Gateway) -> None:
    cable = told(gateway, FILE)
    assert (cable["verdict"], cable["reasons"]) == ("down", ["this host has nothing of the cable"])
    done = run(gateway, "status")
    assert (done.returncode, done.stdout) == (1, "no cable on this host\n")


def is_up_and_counts(gateway: Gateway) -> None:
    """With the file and without: the host's own traces tell as much."""
    before, found = told(gateway, FILE), told(gateway)
    for cable in (before, found):
        assert (cable["verdict"], cable["reasons"], cable["ike"]) == ("up", [], "established")
        assert [each["name"] for each in cable["connections"]] == connections(gateway)
        assert cable["overlay"]["mtu"] == cable["overlay"]["largest_mtu"] == 1408
        assert cable["guard"]["whole"]
        for connection in cable["connections"]:
            (sa,) = connection["child_sas"]
            assert 0 <= sa["age"] < 120
            assert 20_000 < sa["rekey_in"] < 28_800
    assert found["overlay"] == before["overlay"]
    assert ping(gateway, "-c", "5", "-s", "1000").returncode == 0
    gone = zip(carried(before), carried(told(gateway, FILE)), strict=True)
    assert all(new - old > 5 * 1000 for old, new in gone)
    table = run(gateway, "status").stdout
    assert table.startswith(f"{before['cable']}  up\n  peer ")


def is_seen_by_prometheus(gateway: Gateway) -> None:
    done = run(gateway, "status", "--format", "prometheus")
    assert done.returncode == 0
    families = {each.name: each for each in text_string_to_metric_families(done.stdout)}
    states = {each.labels["state"]: each.value for each in families["cablectl_cable_state"].samples}
    assert [state for state, value in states.items() if value] == ["up"]
    received = families["cablectl_received_bytes"].samples
    assert sum(each.value for each in received) > 5 * 1000


def is_watched(gateway: Gateway) -> None:
    """Every two seconds, with rates once there are two; Ctrl-C ends it."""
    with gateway.popen(PROGRAM, "status", "--watch", "--format", "json") as watch:
        assert watch.stdout
        first = json.loads(watch.stdout.readline())
        assert ping(gateway, "-s", "1000").returncode == 0
        second = json.loads(watch.stdout.readline())
        watch.send_signal(signal.SIGINT)
        watch.communicate(timeout=60)
    assert watch.returncode == 130
    assert rates(first) == {None}
    assert max(each or 0 for each in rates(second)) > 2 * 1000 / 60
    jsonschema.validate(second, SCHEMA)


def rates(report: dict[str, Any]) -> set[float | None]:
    (cable,) = report["result"]["cables"]
    return {sa["rate_out"] for each in cable["connections"] for sa in each["child_sas"]}


def is_degraded_and_mended(gateway: Gateway, faults: dict[str, str]) -> None:
    for command in faults:
        gateway.run(*command.split())
    cable = told(gateway, FILE)
    assert cable["verdict"] == "degraded"
    for reason in faults.values():
        assert [each for each in cable["reasons"] if each.startswith(reason)], cable["reasons"]
    is_mended(gateway)


def is_mended(gateway: Gateway) -> None:
    mended = run(gateway, "connect", FILE)
    assert mended.returncode == 0, mended.stderr
    assert told(gateway, FILE)["reasons"] == []


def one_child_sa_of_two(gateway: Gateway, peer: Gateway) -> None:
    """What the end that initiated terminates stays so on 4.10, until a packet needs it."""
    silent = "echo 1 >/proc/sys/net/ipv6/conf/vxlan-tunnel/disable_ipv6"  # else it sends by itself
    gateway.run("sh", "-c", silent)
    gateway.whack("--terminate", "--name", connections(gateway)[1])
    for args in ((FILE,), ()):
        ours, theirs = told(gateway, *args), told(peer, *args)
        assert ours["verdict"] == theirs["verdict"] == "degraded"
        assert ours["reasons"] == ["connection 1 has no Child SA for what the local VTEP sends"]
        assert theirs["reasons"] == [
            "connection 0 has no Child SA for what the local VTEP receives"
        ]
        assert [len(each["child_sas"]) for each in ours["connections"]] == [1, 0]
    assert "  1           none\n" in run(gateway, "status").stdout
    is_mended(gateway)


def no_sa_in_the_kernel(gateway: Gateway) -> None:
    """Whatever pluto believes, nothing is carried; connect has others negotiated."""
    gateway.ip("xfrm state flush")
    cable = told(gateway, FILE)
    assert cable["verdict"] == "down"
    assert (
        cable["reasons"][0]
        == "connection 0 has no SA in the kernel, but pluto believes that it has"
    )
    is_mended(gateway)
    assert ping(gateway).returncode == 0


def pluto_is_started_anew(gateway: Gateway) -> None:
    """It has forgotten the cable; without the file the secret tells that there is one."""
    gateway.stop_pluto()
    assert told(gateway)["reasons"] == ["pluto isn't running"]
    assert told(gateway, FILE)["reasons"][0].startswith("pluto isn't running")
    gateway.start_pluto()
    for args in ((FILE,), ()):
        cable = told(gateway, *args)
        assert (cable["verdict"], cable["reasons"]) == (
            "down",
            ["no connection of the cable is loaded"],
        )


def test_what_is_someone_elses_is_foreign(lab: Lab) -> None:
    """A device, and connections of the cable's very names; nothing is changed for their sake."""
    c1 = lab.gateways[0]
    prepare(c1)
    c1.ip("link add vxlan-tunnel type vxlan id 1000 dstport 4789 local 172.18.0.8")
    before = c1.snapshot()
    cable = told(c1, FILE)
    assert (cable["verdict"], cable["reasons"]) == (
        "foreign",
        ["the device vxlan-tunnel exists, but cablectl didn't make it"],
    )
    assert c1.snapshot() == before
    c1.ip("link delete vxlan-tunnel")
    dry = run(c1, "plan", FILE, "--dry-run").stdout.splitlines()
    for line in (each for each in dry if "whack --psk" in each):
        c1.run("sh", "-c", line)
    for args in ((FILE,), ()):
        cable = told(c1, *args)
        assert (cable["verdict"], cable["reasons"]) == (
            "foreign",
            ["connections with these names are loaded, but cablectl didn't load them"],
        )
    for each in connections(c1):
        c1.whack("--delete", "--name", each)


def test_while_it_is_negotiated(lab: Lab) -> None:
    """The end with the lower address asks a peer that has nothing yet."""
    c2 = lab.gateways[1]
    prepare(c2)
    with c2.popen(PROGRAM, "connect", FILE) as connect:
        assert connect.stderr
        next(line for line in connect.stderr if "] wait: " in line)
        assert told(c2, FILE)["verdict"] == "connecting"
        assert told(c2)["verdict"] == "connecting"
        connect.send_signal(signal.SIGINT)
        assert connect.wait(60) == 130
