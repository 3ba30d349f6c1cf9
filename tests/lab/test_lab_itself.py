"""The lab itself: it captures clear text as clear text, and an encrypted cable as ESP."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from .gateways import Gateway, Lab
from .rooms import until

pytestmark = pytest.mark.lab

ADDRESSES = {"c1": "172.18.0.8", "c2": "172.18.0.7"}
OVERLAY = {"c1": "10.10.0.1", "c2": "10.10.0.2"}
PEER = {"c1": "c2", "c2": "c1"}
DPD = ("--dpdaction", "hold", "--dpddelay", "30")
SECRETS = "/etc/ipsec.d/lab.secrets"
# Drops clear packets in both directions, and counts the packets to both ports that come in.
FIREWALL = """
table inet lab {
    chain in {
        type filter hook input priority -10
        udp dport 4789 meta secpath missing counter drop
    }
    chain out {
        type filter hook output priority -10
        udp dport 4789 rt ipsec missing counter drop
    }
    chain passed {
        type filter hook input priority 0
        udp dport 4789 counter
        udp dport 4790 counter
    }
}
"""


def connection(gateway: Gateway, number: int) -> str:
    """Return the name of the connection to this gateway's peer."""
    return f"cable-{PEER[gateway.name]}-{number}"


def load(gateway: Gateway) -> None:
    """Load and route both connections of the cable."""
    local, remote = ADDRESSES[gateway.name], ADDRESSES[PEER[gateway.name]]
    gateway.write(SECRETS, f'{local} {remote} : PSK "a secret of the lab"\n')
    gateway.whack("--rereadsecrets")
    for number, local_port, remote_port in ((0, "udp/4789", "udp"), (1, "udp", "udp/4789")):
        # fmt: off
        gateway.whack(
            "--psk", "--encrypt", "--forceencaps", "--name", connection(gateway, number),
            "--host", local, "--clientprotoport", local_port, "--ikeport", "4500",
            "--to", "--host", remote, "--clientprotoport", remote_port, "--ikeport", "4500",
            *DPD,
        )
        # fmt: on
        gateway.whack("--route", "--name", connection(gateway, number))


def unload(gateway: Gateway) -> None:
    """Delete both connections and the secrets file."""
    for number in (0, 1):
        gateway.whack("--delete", "--name", connection(gateway, number))
    gateway.path(SECRETS).unlink()
    gateway.whack("--rereadsecrets")


def child_sas(gateway: Gateway) -> int:
    return gateway.whack("--showstates").count("established Child SA")


@contextmanager
def overlay(lab: Lab) -> Iterator[None]:
    """A VXLAN between the gateways; 1408 is the MTU over ESP in UDP by AES-GCM, in bytes."""
    for gateway in lab.gateways:
        remote = ADDRESSES[PEER[gateway.name]]
        gateway.ip(
            f"link add vxlan0 mtu 1408 type vxlan id 1000 remote {remote} dstport 4789 dev eth0",
            f"address add {OVERLAY[gateway.name]}/24 dev vxlan0",
            "link set vxlan0 up",
        )
    yield
    for gateway in lab.gateways:
        gateway.ip("link delete vxlan0")


@contextmanager
def firewall(gateway: Gateway) -> Iterator[None]:
    gateway.run("nft", "--file", "-", input=FIREWALL)
    try:
        yield
    finally:
        gateway.run("nft", "delete", "table", "inet", "lab")


def counted(gateway: Gateway) -> list[int]:
    """Return the packets that each rule of the firewall counted."""
    listing = gateway.run("nft", "--json", "list", "table", "inet", "lab").stdout
    rules = [item["rule"] for item in json.loads(listing)["nftables"] if "rule" in item]
    parts = [part for rule in rules for part in rule["expr"]]
    return [part["counter"]["packets"] for part in parts if "counter" in part]


def send(gateway: Gateway, port: int) -> str:
    """Send one UDP packet to the peer in clear text; return the error, "" if it was sent."""
    to = f"/dev/udp/{ADDRESSES[PEER[gateway.name]]}/{port}"
    return gateway.run("bash", "-c", f"echo >{to}", check=False).stderr


def ping(gateway: Gateway, *options: str) -> None:
    gateway.run("ping", "-c", "3", "-i", "0.1", *options, OVERLAY[PEER[gateway.name]])


def test_clear_text_is_captured(lab: Lab) -> None:
    with lab.capture() as wire, overlay(lab):
        ping(lab.gateways[0])
    summary = wire.summary()
    assert summary["overlay"].frames >= 6
    assert summary["esp-in-udp"].frames == summary["esp"].frames == 0


def test_a_firewall_drops_and_counts_clear_text(lab: Lab) -> None:
    c1, c2 = lab.gateways
    with firewall(c2):
        assert send(c1, 4789) == send(c1, 4790) == ""
        until(lambda: counted(c2) == [1, 0, 0, 1], "one packet dropped, one packet passed")
        assert "Operation not permitted" in send(c2, 4789)
        assert send(c2, 4790) == ""
        assert counted(c2) == [1, 1, 0, 1]


def test_an_encrypted_cable_shows_esp_only_and_leaves_nothing_behind(lab: Lab) -> None:
    before = [gateway.snapshot() for gateway in lab.gateways]
    c1, c2 = lab.gateways
    with lab.capture() as wire:
        load(c2)
        load(c1)
        for number in (0, 1):
            c1.whack("--initiate", "--asynchronous", "--name", connection(c1, number))
        until(lambda: child_sas(c1) == child_sas(c2) == 2, "two Child SAs on each end")
        with firewall(c1), firewall(c2), overlay(lab):
            ping(c1)
            ping(c2, "-M", "do", "-s", "1380")
            for gateway in lab.gateways:
                dropped_in, dropped_out, passed, _ = counted(gateway)
                assert dropped_in == dropped_out == 0
                assert passed >= 6
    summary = wire.summary()
    assert summary["overlay"].frames == summary["esp"].frames == 0
    assert summary["esp-in-udp"].frames >= 12
    assert summary["esp-in-udp"].largest == 1500
    assert summary["ike"].frames >= 4

    unload(c1)
    unload(c2)
    assert [gateway.snapshot() for gateway in lab.gateways] == before


def test_a_snapshot_shows_every_change(lab: Lab) -> None:
    c1 = lab.gateways[0]
    before = c1.snapshot()
    assert c1.snapshot() == before
    c1.ip(
        "address add 192.0.2.1/32 dev lo",
        "xfrm policy add src 192.0.2.1 dst 192.0.2.2 dir out action block",
    )
    c1.write("/etc/ipsec.d/x.secrets", "")
    changed = {kind for kind, text in c1.snapshot().items() if text != before[kind]}
    assert changed == {"addresses", "routes", "policies", "files"}

    c1.ip(
        "address delete 192.0.2.1/32 dev lo",
        "xfrm policy delete src 192.0.2.1 dst 192.0.2.2 dir out",
    )
    c1.path("/etc/ipsec.d/x.secrets").unlink()
    assert c1.snapshot() == before


def test_a_killed_pluto_starts_again(lab: Lab) -> None:
    c1 = lab.gateways[0]
    c1.kill_pluto()
    c1.start_pluto()
    assert "listening for IKE messages" in c1.read("/run/pluto/pluto.log")


def test_a_signal_reaches_the_program_in_the_gateway(lab: Lab) -> None:
    with lab.gateways[0].popen("sh", "-c", "trap 'exit 7' TERM; echo ready; sleep 60 & wait") as sh:
        assert sh.stdout
        sh.stdout.readline()
        sh.terminate()
        assert sh.wait(10) == 7
