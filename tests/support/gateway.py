"""A gateway on which the cable is up: what its tools print."""

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest
from pytest_subprocess import FakeProcess

from cablectl.host import daemon, devices, kernel
from cablectl.libreswan import secrets_file
from tests.support.captures import CLAMP_LISTING, GUARD_LISTING, blocks

KEY = "correct horse battery staple, and more"
WAYS = "ip -j -force -batch -"
# What iproute2 6.1 prints, cut to what matters and one thing more each.
LINK = {
    "ifname": "vxlan-tunnel",
    "flags": ["BROADCAST", "MULTICAST", "UP", "LOWER_UP"],
    "mtu": 1408,
    "group": "241",
    "address": "02:ca:ac:12:00:08",
    "linkinfo": {
        "info_kind": "vxlan",
        "info_data": {"id": 1000, "local": "172.18.0.8", "port": 4789, "learning": False},
    },
    "addr_info": [
        {"family": "inet", "local": "241.18.0.8", "prefixlen": 8, "scope": "global"},
        {"family": "inet6", "local": "fe80::1", "prefixlen": 64, "scope": "link"},
    ],
}
ETH0 = {
    "ifname": "eth0",
    "flags": ["BROADCAST", "UP"],
    "mtu": 1500,
    "addr_info": [{"local": "172.18.0.8", "prefixlen": 16}],
}
FDB = [
    {"mac": "02:ca:ac:12:00:07", "ifname": "vxlan-tunnel", "dst": "172.18.0.7"},
    {"mac": "00:00:00:00:00:00", "ifname": "vxlan-tunnel", "dst": "172.18.0.7"},
]
NEIGHBOURS = [{"dst": "241.18.0.7", "lladdr": "02:ca:ac:12:00:07", "state": ["PERMANENT"]}]
ROUTES = [
    {"dst": "10.45.0.0/16", "gateway": "241.18.0.7", "dev": "vxlan-tunnel", "table": "24141"},
    {"dst": "10.99.0.0/16", "gateway": "241.18.0.99", "dev": "gre-tunnel", "table": "7"},
]
RULES = [
    {"priority": 0, "src": "all", "table": "local"},
    {"priority": 241, "src": "all", "table": "24141", "protocol": "241"},
]
POLICY = """\
src 172.18.0.8/32 dst 172.18.0.7/32 proto udp dport 4789 \n\tdir out priority 1360065 ptype main \n
src 172.18.0.8/32 dst 172.18.0.7/32 proto udp sport 4789 \n\tdir out priority 1360065 ptype main \n
src 172.18.0.7/32 dst 172.18.0.8/32 proto udp sport 4789 \n\tdir in priority 1360065 ptype main \n
src 172.18.0.7/32 dst 172.18.0.8/32 proto udp dport 4789 \n\tdir in priority 1360065 ptype main \n
src 0.0.0.0/0 dst 0.0.0.0/0 \n\tsocket in priority 0 ptype main \n
src ::/0 dst ::/0 proto ipv6-icmp type 135 \n\tdir out priority 1 ptype main \n
"""


def _clamp() -> dict[str, Any]:
    """Return the listing of the table that limits TCP's segments to one subnet."""
    listing: dict[str, Any] = copy.deepcopy(CLAMP_LISTING)
    (remote,) = (item["set"] for item in listing["nftables"] if "set" in item)
    remote["elem"] = [{"prefix": {"addr": "10.45.0.0", "len": 16}}]
    return listing


def stand_in(fp: FakeProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeProcess:
    """Have the tools of a gateway with root, on which the cable is up, answer once each."""
    fp.allow_unregistered(False)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(kernel, "has_module", lambda name: name in ("xfrm_user", "esp4"))
    monkeypatch.setattr(kernel, "can_load", lambda name: False)
    monkeypatch.setattr(daemon, "service_port", lambda: None)
    monkeypatch.setattr(
        devices, "_setting", lambda path: "2" if path.endswith("rp_filter") else "1"
    )
    monkeypatch.setattr(secrets_file, "DIRECTORY", str(tmp_path))
    monkeypatch.setattr(secrets_file, "MAIN_FILE", str(tmp_path / "main"))
    (tmp_path / "main").write_text(f"# a comment\ninclude  {tmp_path}/*.secrets\n")
    (tmp_path / "psk").write_text(f"{KEY}\n")
    (tmp_path / "psk").chmod(0o600)
    answers: dict[str, Any] = {
        "ipsec --version": "Libreswan 4.10\n",
        "ipsec --directory": "",  # then `ipsec whack` runs
        WAYS: [{"dst": "172.18.0.7", "dev": "eth0"}],
        "ip -j link show dev eth0": [{"ifname": "eth0", "mtu": 1500}],
        "ipsec whack --status": blocks("4.10", "ipsec whack --status")[2],
        "ipsec whack --trafficstatus": blocks("4.10", "ipsec whack --trafficstatus")[-1],
        "ip xfrm policy": POLICY,
        "ip -s -d xfrm state list nokeys": "",
        "ip -N -d -j address": [ETH0, LINK],
        "bridge -j fdb show dev vxlan-tunnel": FDB,
        "ip -j neigh show dev vxlan-tunnel nud permanent": NEIGHBOURS,
        "ip -N -j -4 route show table all proto 241": ROUTES,
        "ip -N -j -4 route show table 24141": [{**ROUTES[0], "protocol": "241"}],
        "ip -N -j -4 rule": RULES,
        "nft -j list table inet cablectl_vxlan-tunnel": GUARD_LISTING,
        "nft -j list table inet cablectl-mss_vxlan-tunnel": _clamp(),
        "ethtool --json -k eth0": [{"ifname": "eth0", "esp-hw-offload": {"active": False}}],
    }
    for command, answer in answers.items():
        fp.register(
            command.split(), stdout=answer if isinstance(answer, str) else json.dumps(answer)
        )
    return fp
