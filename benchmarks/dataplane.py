"""What each way to join two gateways costs in time and in bytes, on one kernel in one run.

Run `make dataplane`, which boots the lab around it. Each way has two gateways and a wire of its
own; all stand while one flow of TCP after another goes through them, in turn, in each round.
Goodput is what the receiver counted; on user-mode-linux it says little in Mbit/s, so it is shown as
a ratio to plain VXLAN in the same round, the median of the rounds. Bytes on the wire are those that
the sender's `eth0` counted, Ethernet's header included.
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
from cablectl import spec, xfrm
from tests.documents import document
from tests.lab.cable import FILE, PSK, PSK_FILE, connected
from tests.lab.gateways import Gateway, Lab
from tests.lab.rooms import CHECKOUT, Process
from tests.lab.traffic import hosts, target

ROUNDS = 5
SECONDS = 1.0  # of each flow
BURST = 0.02  # seconds of the flow that is captured
PATH_MTU = 1500
ETHERNET = 14
BASE, WIREGUARD = "plain VXLAN", "WireGuard"
WIREGUARD_MTU = PATH_MTU - 20 - 8 - 32  # the usual 1420 leaves room for IPv6 outside

# ESP bare, as a NIC wants it and as two gateways without NAT between them can have it.
BARE = "ipsec: {{encapsulation: no, esp: [{}]}}\n"
AES_GCM = BARE.format("aes_gcm-null")
# Authenticates and doesn't encrypt (RFC 4543), in frames as long as those of AES-GCM.
AES_GMAC = BARE.format("null_auth_aes_gmac-null")
# What `ip xfrm state add` is told of an SA that does no cryptography at all.
NO_CIPHER = 'enc ecb(cipher_null) ""'
OVERLAYS = {
    "tunnel mode": "tunnel v4",
    "VXLAN over transport": "transport vxlan v4",
    "GRE over transport": "transport gre v4",
    "Geneve over transport": "transport geneve v4",
}


@dataclass(frozen=True)
class Way:
    """A way to join two gateways, in words of tests/documents.py, and what the file adds."""

    name: str
    cipher: str
    words: str = ""
    ipsec: str = ""
    swapped: bool = False  # its SAs are exchanged for some without cryptography


WAYS = (
    Way(BASE, "none", "none vxlan v4"),
    *(
        Way(name, cipher, words, ipsec, swapped)
        for name, words in OVERLAYS.items()
        for cipher, ipsec, swapped in (
            ("AES-GCM", AES_GCM, False),
            ("AES-GMAC", AES_GMAC, False),
            ("no crypto", AES_GCM, True),
        )
    ),
    Way("VXLAN, ESP in UDP", "AES-GCM", "transport vxlan v4"),  # the file's default
    Way(WIREGUARD, "ChaCha20"),
)


@dataclass
class Stand:
    """A way that stands: where flows go, and what was measured of it."""

    way: Way
    lab: Lab
    source: str
    target: str
    goodputs: list[float] = field(default_factory=list)  # Mbit/s, one of each round
    wire: list[float] = field(default_factory=list)  # bytes on the wire for each of payload
    largest: int = 0  # bytes, of the largest IP packet on the wire

    def flow(self, seconds: float) -> tuple[int, float, int]:
        """Send for so long; return bytes of payload, the seconds they took, bytes on the wire."""
        sender, receiver = self.lab.gateways
        with python(receiver, "receive", self.target) as receiving:
            assert receiving.stdout
            assert receiving.stdout.readline() == "ready\n"
            before = sent(sender)
            with python(sender, "send", self.source, self.target, str(seconds)) as sending:
                _, said = sending.communicate(timeout=60)
            assert not sending.returncode, said
            told = json.loads(receiving.communicate(timeout=60)[0])
        return told["bytes"], told["seconds"], sent(sender) - before

    def measure(self) -> None:
        """Send the flow of one round."""
        payload, seconds, wire = self.flow(SECONDS)
        self.goodputs.append(payload * 8 / seconds / 1e6)
        self.wire.append(wire / payload)

    def look(self) -> None:
        """See how large a frame becomes: in a flow of its own, since a capture costs time."""
        with self.lab.capture() as wire:
            self.flow(BURST)
        self.largest = max(len(frame) for frame in wire.frames) - ETHERNET


def python(gateway: Gateway, *args: str) -> Process:
    """Start one end of a flow on a gateway."""
    path = {"PYTHONPATH": str(CHECKOUT)}
    return gateway.popen(sys.executable, "-m", "benchmarks.flow", *args, env=path)


def sent(gateway: Gateway) -> int:
    """Return how many bytes went out by `eth0`."""
    (link,) = json.loads(gateway.run("ip", "-j", "-s", "link", "show", "eth0").stdout)
    return int(link["stats64"]["tx"]["bytes"])


def stand(way: Way, stack: ExitStack) -> Stand:
    """Put up two gateways and what joins them; it goes with the stack."""
    lab = stack.enter_context(Lab())
    gateways = [lab.gateway(f"c{n}", f"172.18.0.{last}/16") for n, last in ((1, 8), (2, 7))]
    if way.name == WIREGUARD:
        return Stand(way, lab, *wireguard(*gateways))
    text = document(way.words) + way.ipsec
    network = spec.parse(text, way.name)
    cables = [network.cable(network.named(f"cluster{number}")) for number in (1, 2)]
    for gateway in gateways:
        gateway.start_pluto()
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    stack.enter_context(hosts(list(zip(gateways, cables, strict=True))))
    connected(*gateways)
    if way.swapped:
        for gateway in gateways:
            swap(gateway, "tunnel" if way.words.startswith("tunnel") else "transport")
    return Stand(way, lab, *target(cables[0]))


def swap(gateway: Gateway, mode: str) -> None:
    """Exchange the SAs that pluto made for some that cost no cryptography, as with a NIC's."""
    listed = gateway.run("ip", "-s", "xfrm", "state", "list", "nokeys").stdout
    for sa in xfrm.parse_sas(listed):
        which = f"src {sa.source} dst {sa.destination} proto esp spi {sa.spi}"
        kept = f"reqid {sa.reqid} mode {mode} replay-window 128 flag af-unspec"
        gateway.ip(
            f"xfrm state delete {which}",
            f"xfrm state add {which} {kept} {NO_CIPHER}",
        )


def wireguard(first: Gateway, last: Gateway) -> tuple[str, str]:
    """Join two gateways by WireGuard; return the addresses between which it carries."""
    keys = {each.name: each.run("wg", "genkey").stdout.strip() for each in (first, last)}
    for gateway, number, peer, address in (
        (first, 1, last, "172.18.0.7"),
        (last, 2, first, "172.18.0.8"),
    ):
        gateway.write("/etc/wg.key", keys[gateway.name])
        gateway.ip("link add wg0 type wireguard")
        public = gateway.run("wg", "pubkey", input=keys[peer.name]).stdout.strip()
        settings = ("private-key", "/etc/wg.key", "listen-port", "51820")
        allowed = ("allowed-ips", "10.0.0.0/24", "endpoint", f"{address}:51820")
        gateway.run("wg", "set", "wg0", *settings, "peer", public, *allowed)
        gateway.ip(
            f"address add 10.0.0.{number}/24 dev wg0", f"link set wg0 mtu {WIREGUARD_MTU} up"
        )
    return "10.0.0.1", "10.0.0.2"


def relative(goodputs: list[float], base: list[float]) -> float:
    """Return the median of the ratios of each round."""
    return statistics.median(each / plain for each, plain in zip(goodputs, base, strict=True))


def main() -> None:
    """Measure, print a table, and draw a picture of it into LAB_RESULTS."""
    with ExitStack() as stack:
        stands = []
        for way in WAYS:
            stands.append(stand(way, stack))
            print(f"up: {way.name}, {way.cipher}", file=sys.stderr, flush=True)
        for each in stands:
            each.look()
        for number in range(ROUNDS):
            for each in stands:
                each.measure()
            print(f"round {number + 1} of {ROUNDS}", file=sys.stderr, flush=True)
    base = stands[0].goodputs
    print(f"Linux {platform.release()}, {ROUNDS} rounds of {SECONDS:g} s, path MTU {PATH_MTU}")
    print("| way | cipher | goodput | as ratio | wire bytes per payload byte | largest packet |")
    print("|---|---|---:|---:|---:|---:|")
    rows = []
    for each in stands:
        ratio, wire = relative(each.goodputs, base), statistics.median(each.wire)
        speed = statistics.median(each.goodputs)
        rows.append(bars.Row(each.way.name, each.way.cipher, ratio, wire))
        print(
            f"| {each.way.name} | {each.way.cipher} | {speed:.0f} Mbit/s | {ratio:.2f} "
            f"| {wire:.4f} | {each.largest} |"
        )
    if results := os.environ.get("LAB_RESULTS"):
        (Path(results) / "dataplane.svg").write_text(bars.draw(rows))


if __name__ == "__main__":
    main()
