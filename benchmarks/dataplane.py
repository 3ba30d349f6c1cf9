"""Compares the time and the bytes of each cable type, on one kernel in one run.

Run `make dataplane`, which boots the lab. Each cable type has its own two gateways and wire. All
cables are up at the same time. In each round they take turns to carry a TCP flow. Goodput is what
the receiver counted. On user-mode Linux the absolute Mbit/s mean little, so the result is the ratio
to plain VXLAN in the same round, the median of the rounds. The sender's `eth0` counts the bytes on
the wire, with Ethernet headers.

The measurement is repeated with other SAs. First pluto negotiates AES-GCM. Then the SAs are
replaced by SAs with the null cipher and without authentication. That is the work that remains for
the CPU if a NIC does all cryptography. Libreswan doesn't create such SAs.
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
CABLES = {  # the shapes of tests/support/documents.py
    PLAIN: "none vxlan v4",
    "tunnel mode": "tunnel v4",
    "VXLAN over transport": "transport vxlan v4",
    "GRE over transport": "transport gre v4",
    "Geneve over transport": "transport geneve v4",
    DEFAULT: "transport vxlan v4",  # the default, without `encapsulation: no`
    WIREGUARD: "",
}
FIXED = {PLAIN: "no crypto", DEFAULT: "AES-GCM", WIREGUARD: "ChaCha20-Poly1305"}
GCM, NONE = "AES-GCM", "no crypto"
BARE = "ipsec: {encapsulation: no, esp: [aes_gcm-null]}\n"
NO_CIPHER = 'enc ecb(cipher_null) ""'  # for `ip xfrm state add`


@dataclass
class Measured:
    """The measurements of one cable type with one cipher, a value for each round."""

    ratios: list[float] = field(default_factory=list)  # goodput as a ratio to plain VXLAN
    goodputs: list[float] = field(default_factory=list)  # Mbit/s
    wire: list[float] = field(default_factory=list)  # bytes on the wire per byte of payload
    largest: int = 0  # bytes; the largest IP packet on the wire


class Testbed:
    """Two gateways joined by a cable until the stack is closed; the first gateway sends."""

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
        cables = [shaped(CABLES[self.name], f"cluster{number}") for number in (1, 2)]
        self.source, self.target = inner_addresses(cables[0])
        for gateway in self.gateways:
            gateway.start_pluto()
            gateway.write(PSK_FILE, f"{PSK}\n")
            gateway.write(FILE, document(CABLES[self.name]) + ("" if self.name in FIXED else BARE))
        self.stack.enter_context(cluster_hosts(list(zip(self.gateways, cables, strict=True))))
        bring_up(*self.gateways)

    def no_crypto(self) -> None:
        """Replace the cable's SAs by SAs without encryption and authentication."""
        for gateway in self.gateways:
            replace_sas(gateway, CABLES[self.name].partition(" ")[0])

    def _answer(self) -> str:
        assert self._receiving.stdout
        return self._receiving.stdout.readline()

    def flow(self, seconds: float) -> tuple[int, float, int]:
        """Send for `seconds`; return bytes of payload, duration in seconds, bytes on the wire."""
        before = sent(self.gateways[0])
        assert self._sending.stdin
        print(self.source, self.target, seconds, file=self._sending.stdin, flush=True)
        result = json.loads(self._answer())
        return result["bytes"], result["seconds"], sent(self.gateways[0]) - before

    def largest(self) -> int:
        """Return the size of the largest packet in bytes, in a separate flow with a capture."""
        with self.lab.capture() as wire:
            self.flow(BURST)
        return max(len(frame) for frame in wire.frames) - ETHERNET


def python(gateway: Gateway, end: str) -> Process:
    """Start benchmarks.flow on a gateway; `end` is send or receive."""
    path = {"PYTHONPATH": str(CHECKOUT)}
    return gateway.popen(sys.executable, "-m", "benchmarks.flow", end, env=path)


def sent(gateway: Gateway) -> int:
    """Return how many bytes `eth0` has sent."""
    (link,) = json.loads(gateway.run("ip", "-j", "-s", "link", "show", "eth0").stdout)
    return int(link["stats64"]["tx"]["bytes"])


def replace_sas(gateway: Gateway, mode: str) -> None:
    """Replace pluto's SAs by SAs without cryptography."""
    listed = gateway.run("ip", "-s", "xfrm", "state", "list", "nokeys").stdout
    for sa in xfrm.parse_sas(listed):
        identity = f"src {sa.source} dst {sa.destination} proto esp spi {sa.spi}"
        options = f"reqid {sa.reqid} mode {mode} replay-window 128 flag af-unspec"
        gateway.ip(
            f"xfrm state delete {identity}", f"xfrm state add {identity} {options} {NO_CIPHER}"
        )


def wireguard(first: Gateway, last: Gateway) -> tuple[str, str]:
    """Join two gateways by WireGuard; return the two addresses inside the tunnel."""
    keys = [gateway.run("wg", "genkey").stdout.strip() for gateway in (first, last)]
    publics = [first.run("wg", "pubkey", input=key).stdout.strip() for key in keys]
    for gateway, key, number, peer, address in (
        (first, keys[0], 1, publics[1], "172.18.0.7"),
        (last, keys[1], 2, publics[0], "172.18.0.8"),
    ):
        gateway.write("/etc/wg.key", key)
        gateway.ip("link add wg0 type wireguard")
        local = ("private-key", "/etc/wg.key", "listen-port", "51820")
        remote = ("allowed-ips", "10.0.0.0/24", "endpoint", f"{address}:51820")
        gateway.run("wg", "set", "wg0", *local, "peer", peer, *remote)
        gateway.ip(
            f"address add 10.0.0.{number}/24 dev wg0", f"link set wg0 mtu {WIREGUARD_MTU} up"
        )
    return "10.0.0.1", "10.0.0.2"


def measure(testbeds: list[Testbed], cipher: str) -> dict[tuple[str, str], Measured]:
    """Measure the testbeds in turn, in each round; the first one is plain VXLAN."""
    results = {(bed.name, FIXED.get(bed.name, cipher)): Measured() for bed in testbeds}
    for bed, result in zip(testbeds, results.values(), strict=True):
        result.largest = bed.largest()
    for number in range(ROUNDS):
        plain_vxlan = 0.0
        for bed, result in zip(testbeds, results.values(), strict=True):
            payload, seconds, wire = bed.flow(SECONDS)
            goodput = payload * 8 / seconds / 1e6
            plain_vxlan = plain_vxlan or goodput
            result.goodputs.append(goodput)
            result.ratios.append(goodput / plain_vxlan)
            result.wire.append(wire / payload)
        print(f"{cipher}: round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    return results


def table(results: dict[tuple[str, str], Measured]) -> str:
    """Return the measurements as a Markdown table."""
    lines = [
        "| cable | cipher | goodput, as ratio (of the rounds) | Mbit/s "
        "| wire bytes per payload byte | largest packet |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for (name, cipher), result in results.items():
        ratio, speed = statistics.median(result.ratios), statistics.median(result.goodputs)
        span = f"{min(result.ratios):.2f} to {max(result.ratios):.2f}"
        lines.append(
            f"| {name} | {cipher} | {ratio:.2f} ({span}) | {speed:.0f} "
            f"| {statistics.median(result.wire):.4f} | {result.largest} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print two tables, and draw the picture into the directory LAB_RESULTS."""
    with ExitStack() as stack:
        testbeds = []
        for name in CABLES:
            testbeds.append(Testbed(name, stack))
            print(f"up: {name}", file=sys.stderr, flush=True)
        print(f"Linux {platform.release()}, {ROUNDS} rounds, flows of {SECONDS:g} s")
        results = measure(testbeds, GCM)
        print(table(results), flush=True)
        changeable = [bed for bed in testbeds if bed.name not in FIXED]
        for bed in changeable:
            bed.no_crypto()
        without_crypto = measure([testbeds[0], *changeable], NONE)
        print(table(without_crypto), flush=True)
        results |= {key: value for key, value in without_crypto.items() if key not in results}
    if directory := os.environ.get("LAB_RESULTS"):
        order = list(CABLES)
        rows = [
            bars.Row(name, cipher, statistics.median(result.ratios), statistics.median(result.wire))
            for (name, cipher), result in sorted(
                results.items(), key=lambda item: order.index(item[0][0])
            )
        ]
        (Path(directory) / "dataplane.svg").write_text(bars.draw(rows))


if __name__ == "__main__":
    main()
