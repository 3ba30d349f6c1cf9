"""What each way to join two gateways costs in time and in bytes, on one kernel in one run.

Run `make dataplane`, which boots the lab around it. Each way has two gateways and a wire of its
own; all stand while one flow of TCP after another goes through them, in turn, in each round.
Goodput is what the receiver counted; on user-mode-linux it says little in Mbit/s, so it is shown as
a ratio to plain VXLAN in the same round, the median of the rounds. Bytes on the wire are those that
the sender's `eth0` counted, Ethernet's header included.

There are two turns: with AES-GCM, as pluto agrees on it; and with SAs that were then exchanged by
hand for some of ESP with the null cipher and no authentication, in the same places. That is what a
NIC leaves to the CPU that does all of the cryptography itself. Libreswan makes no such SA.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks import bars
from cablectl.linux import xfrm
from tests.lab.cable import FILE, PSK, PSK_FILE, bring_up
from tests.lab.gateways import Gateway, Lab
from tests.lab.rooms import CHECKOUT, Process
from tests.lab.traffic import cluster_hosts, inner_addresses
from tests.support.documents import document, shaped

ROUNDS = 3
SECONDS = 1.0  # of each flow
BURST = 0.02  # seconds of the flow that is captured
PATH_MTU = 1500
ETHERNET = 14
PLAIN, DEFAULT, WIREGUARD = "plain VXLAN", "VXLAN, ESP in UDP", "WireGuard"
WIREGUARD_MTU = PATH_MTU - 20 - 8 - 32  # the usual 1420 leaves room for IPv6 outside
WAYS = {  # in words of tests/support/documents.py
    PLAIN: "none vxlan v4",
    "tunnel mode": "tunnel v4",
    "VXLAN over transport": "transport vxlan v4",
    "GRE over transport": "transport gre v4",
    "Geneve over transport": "transport geneve v4",
    DEFAULT: "transport vxlan v4",  # as a file has it that doesn't say `encapsulation: no`
    WIREGUARD: "",
}
FIXED = {PLAIN: "no crypto", DEFAULT: "AES-GCM", WIREGUARD: "ChaCha20-Poly1305"}
GCM, NONE = "AES-GCM", "no crypto"
BARE = "ipsec: {encapsulation: no, esp: [aes_gcm-null]}\n"
NO_CIPHER = 'enc ecb(cipher_null) ""'  # what `ip xfrm state add` is told


@dataclass
class Measured:
    """What was measured of a way with a cipher."""

    ratios: list[float] = field(default_factory=list)  # of goodputs, to that of plain VXLAN
    goodputs: list[float] = field(default_factory=list)  # Mbit/s
    wire: list[float] = field(default_factory=list)  # bytes on the wire for each of payload
    largest: int = 0  # bytes, of the largest IP packet on the wire


class Stand:
    """A way that stands, on two gateways, until the stack ends; flows go from the first."""

    def __init__(self, name: str, stack: ExitStack) -> None:
        self.name, self.stack = name, stack
        self.lab = stack.enter_context(Lab())
        self.gateways = [
            self.lab.gateway(f"c{number}", f"172.18.0.{last}/16")
            for number, last in ((1, 8), (2, 7))
        ]
        if name == WIREGUARD:
            self.source, self.target = wireguard(*self.gateways)
        else:
            self._cable()
        sender, receiver = self.gateways
        self._receiving, self._sending = python(receiver, "receive"), python(sender, "send")
        stack.callback(self._sending.communicate)
        stack.callback(self._receiving.kill)
        assert self._answer() == "ready\n"

    def _cable(self) -> None:
        cables = [shaped(WAYS[self.name], f"cluster{number}") for number in (1, 2)]
        self.source, self.target = inner_addresses(cables[0])
        for gateway in self.gateways:
            gateway.start_pluto()
            gateway.write(PSK_FILE, f"{PSK}\n")
            gateway.write(FILE, document(WAYS[self.name]) + ("" if self.name in FIXED else BARE))
        self.stack.enter_context(cluster_hosts(list(zip(self.gateways, cables, strict=True))))
        bring_up(*self.gateways)

    def no_crypto(self) -> None:
        """Have the cable's SAs encrypt and authenticate nothing."""
        for gateway in self.gateways:
            exchange_sas(gateway, WAYS[self.name].partition(" ")[0])

    def _answer(self) -> str:
        assert self._receiving.stdout
        return self._receiving.stdout.readline()

    def flow(self, seconds: float) -> tuple[int, float, int]:
        """Send for so long; return bytes of payload, the seconds they took, bytes on the wire."""
        before = sent(self.gateways[0])
        assert self._sending.stdin
        print(self.source, self.target, seconds, file=self._sending.stdin, flush=True)
        told = json.loads(self._answer())
        return told["bytes"], told["seconds"], sent(self.gateways[0]) - before

    def largest(self) -> int:
        """Return the size of the largest packet, of a flow of its own: a capture costs time."""
        with self.lab.capture() as wire:
            self.flow(BURST)
        return max(len(frame) for frame in wire.frames) - ETHERNET


def python(gateway: Gateway, end: str) -> Process:
    """Start one end of the flows on a gateway."""
    path = {"PYTHONPATH": str(CHECKOUT)}
    return gateway.popen(sys.executable, "-m", "benchmarks.flow", end, env=path)


def sent(gateway: Gateway) -> int:
    """Return how many bytes went out by `eth0`."""
    (link,) = json.loads(gateway.run("ip", "-j", "-s", "link", "show", "eth0").stdout)
    return int(link["stats64"]["tx"]["bytes"])


def exchange_sas(gateway: Gateway, mode: str) -> None:
    """Put SAs without cryptography in the place of those that pluto made."""
    listed = gateway.run("ip", "-s", "xfrm", "state", "list", "nokeys").stdout
    for sa in xfrm.parse_sas(listed):
        which = f"src {sa.source} dst {sa.destination} proto esp spi {sa.spi}"
        kept = f"reqid {sa.reqid} mode {mode} replay-window 128 flag af-unspec"
        gateway.ip(f"xfrm state delete {which}", f"xfrm state add {which} {kept} {NO_CIPHER}")


def wireguard(first: Gateway, last: Gateway) -> tuple[str, str]:
    """Join two gateways by WireGuard; return the addresses between which it carries."""
    keys = [gateway.run("wg", "genkey").stdout.strip() for gateway in (first, last)]
    publics = [first.run("wg", "pubkey", input=key).stdout.strip() for key in keys]
    for gateway, key, number, peer, address in (
        (first, keys[0], 1, publics[1], "172.18.0.7"),
        (last, keys[1], 2, publics[0], "172.18.0.8"),
    ):
        gateway.write("/etc/wg.key", key)
        gateway.ip("link add wg0 type wireguard")
        mine = ("private-key", "/etc/wg.key", "listen-port", "51820")
        theirs = ("allowed-ips", "10.0.0.0/24", "endpoint", f"{address}:51820")
        gateway.run("wg", "set", "wg0", *mine, "peer", peer, *theirs)
        gateway.ip(
            f"address add 10.0.0.{number}/24 dev wg0", f"link set wg0 mtu {WIREGUARD_MTU} up"
        )
    return "10.0.0.1", "10.0.0.2"


def turn(stands: list[Stand], cipher: str) -> dict[tuple[str, str], Measured]:
    """Measure the stands in turn, in each round; the first one is plain VXLAN."""
    measured = {(each.name, FIXED.get(each.name, cipher)): Measured() for each in stands}
    for each, found in zip(stands, measured.values(), strict=True):
        found.largest = each.largest()
    for number in range(ROUNDS):
        base = 0.0
        for each, found in zip(stands, measured.values(), strict=True):
            payload, seconds, wire = each.flow(SECONDS)
            goodput = payload * 8 / seconds / 1e6
            base = base or goodput
            found.goodputs.append(goodput)
            found.ratios.append(goodput / base)
            found.wire.append(wire / payload)
        print(f"{cipher}: round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    return measured


def table(measured: dict[tuple[str, str], Measured]) -> str:
    """Return what was measured as a table of Markdown."""
    lines = [
        "| way | cipher | goodput, as ratio (of the rounds) | Mbit/s | wire bytes per payload byte "
        "| largest packet |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (name, cipher), found in measured.items():
        ratio, speed = statistics.median(found.ratios), statistics.median(found.goodputs)
        span = f"{min(found.ratios):.2f} to {max(found.ratios):.2f}"
        lines.append(
            f"| {name} | {cipher} | {ratio:.2f} ({span}) | {speed:.0f} "
            f"| {statistics.median(found.wire):.4f} | {found.largest} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print a table, and draw a picture of it into LAB_RESULTS."""
    with ExitStack() as stack:
        stands = []
        for name in WAYS:
            stands.append(Stand(name, stack))
            print(f"up: {name}", file=sys.stderr, flush=True)
        print(f"Linux {platform.release()}, {ROUNDS} rounds, flows of {SECONDS:g} s")
        measured = turn(stands, GCM)
        print(table(measured), flush=True)
        changed = [each for each in stands if each.name not in FIXED]
        for each in changed:
            each.no_crypto()
        found = turn([stands[0], *changed], NONE)
        print(table(found), flush=True)
        measured |= {key: value for key, value in found.items() if key not in measured}
    if results := os.environ.get("LAB_RESULTS"):
        order = list(WAYS)
        rows = [
            bars.Row(name, cipher, statistics.median(each.ratios), statistics.median(each.wire))
            for (name, cipher), each in sorted(
                measured.items(), key=lambda item: order.index(item[0][0])
            )
        ]
        (Path(results) / "dataplane.svg").write_text(bars.draw(rows))


if __name__ == "__main__":
    main()
