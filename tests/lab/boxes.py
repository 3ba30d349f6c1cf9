"""NAT boxes: what a cloud, a provider's router or a mobile network does to a gateway's packets."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Mapping

from .gateways import Gateway
from .rooms import LabError

# linux/netlink.h, linux/netfilter/nfnetlink_conntrack.h: without attributes, all flows are deleted.
_NETFILTER, _DELETE_FLOWS, _REQUEST_AND_ACK = 12, 1 << 8 | 2, 5

# What passes between a box's LAN and the switch, which is at eth0.
_NAT = """
table {family} lab {{ }}
flush table {family} lab
table {family} lab {{
    chain in {{
        type nat hook prerouting priority dstnat;
        {incoming}
    }}
    chain out {{
        type nat hook postrouting priority srcnat;
        oifname "eth0" {outgoing}
    }}
}}
"""


def translate(box: Gateway, private: str, public: str) -> None:
    """Give a host of the LAN a public address of its own, in both directions, as clouds do."""
    family = "ip6" if ":" in private else "ip"
    _load(box, f'iifname "eth0" dnat to {private}', f"snat to {public}", family)


def forward(box: Gateway, ports: Mapping[int, str]) -> None:
    """Forward UDP ports of the box to hosts of its LAN, and masquerade what the LAN sends."""
    rules = (f'iifname "eth0" udp dport {port} dnat to {host}' for port, host in ports.items())
    _load(box, "\n".join(rules), "masquerade")


def masquerade(box: Gateway) -> None:
    """Let the LAN out by the box's own address, each flow with a port that the box chooses."""
    _load(box, "", "masquerade random")


def let_pass(box: Gateway) -> None:
    """Translate nothing."""
    box.run("nft", "flush", "ruleset")


def forget_flows(box: Gateway) -> None:
    """Let a box forget which port it gave to which flow, as a router does that is restarted."""
    header, family = struct.Struct("=IHHII"), struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
    request = header.pack(header.size + len(family), _DELETE_FLOWS, _REQUEST_AND_ACK, 1, 0)
    with box.open_socket(socket.AF_NETLINK, socket.SOCK_RAW, _NETFILTER) as kernel:
        kernel.send(request + family)
        (error,) = struct.unpack_from("=i", kernel.recv(4096), header.size)
    if error:
        raise LabError(f"{box.name}: conntrack: {os.strerror(-error)}")


def _load(box: Gateway, incoming: str, outgoing: str, family: str = "ip") -> None:
    rules = _NAT.format(family=family, incoming=incoming, outgoing=outgoing)
    box.run("nft", "--file", "-", input=rules)
