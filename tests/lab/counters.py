"""Packets that the kernel of a lab's gateway counted: dropped by the guard, or delivered."""

from __future__ import annotations

import json

from cablectl.linux import guard, nftables
from cablectl.model.cable import Cable

from .gateways import Gateway
from .rooms import Room


def dropped(gateway: Gateway, cable: Cable) -> tuple[int, int]:
    """Return how many packets the guard dropped, in and out; it must be loaded and complete."""
    listing = gateway.run("nft", "-j", "list", "table", *guard.name(cable).split()).stdout
    loaded = nftables.parse(json.loads(listing))
    assert guard.is_intact(cable, loaded)
    return guard.dropped(loaded)


def echo_requests(gateway: Room, version: int = 4) -> int:
    """Return how many ICMP or ICMPv6 echo requests were delivered to the gateway."""
    if version == 6:
        pairs = map(str.split, gateway.run("cat", "/proc/net/snmp6").stdout.splitlines())
        return int(dict(pairs)["Icmp6InEchos"])
    names, values = (
        line.split()
        for line in gateway.run("cat", "/proc/net/snmp").stdout.splitlines()
        if line.startswith("Icmp:")
    )
    return int(values[names.index("InEchos")])
