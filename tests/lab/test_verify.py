"""`verify` proves a healthy cable; clear text, silence or a missing part isn't proven.

test_modes.py runs `verify` for each mode and overlay.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from cablectl.linux import guard
from tests.support.documents import document, shaped
from tests.support.examples import load

from .cable import FILE, PSK, PSK_FILE, bring_up, connections, ping, prepare, run, tear_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM, until

pytestmark = pytest.mark.lab

Record = Callable[[str, object], None]
COUNT = 20
PING_BYTES = 114  # a ping of 84 bytes with the headers of UDP, VXLAN and Ethernet
DROP_PINGS = (
    "table inet no_pings { chain in {"
    " type filter hook input priority 0; icmp type echo-request drop; }; }"
)
# Sends on lo while the capture sleeps, so that its buffer overflows; prints the capture's counts.
# The filter lets everything pass.
OVERFLOW = f"""
import socket, struct, time
from cablectl.verification.observe import capture
capture._BUFFER = 1  # the kernel raises it to its minimum
captured = []
class Slow(capture.Capture):
    def _read(self):
        time.sleep(0.5)
        super()._read()
program = struct.pack("=HBBI", 6, 0, 0, 128)
slow = Slow("lo", program, lambda *frame: captured.append(frame))
with slow, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    for _ in range({COUNT}):
        sender.sendto(bytes(1000), ("127.0.0.1", 9))
print(len(captured) + slow.lost, slow.lost)
"""
FLOOD = 100_000  # packets
OUTSIDER = "172.18.0.99"
# Sends packets of UDP to a port that nobody has, until it is killed; argv: from where, to whom.
FLOODING = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((sys.argv[1], 0))
    while True:
        try:
            sender.sendto(bytes(1200), (sys.argv[2], 9))
        except OSError:  # no room, or an ICMP error
            pass
"""
# Runs a command; prints on stderr the most memory, in KiB, that a process of it took.
MEASURED = """
import resource, subprocess, sys
code = subprocess.run(sys.argv[1:]).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


@pytest.fixture
def pair(lab: Lab) -> Iterator[tuple[Gateway, Gateway]]:
    """Gateways with a healthy cable; after the test, pluto runs and there is no cable."""
    c1, c2 = lab.gateways
    for gateway in (c1, c2):
        prepare(gateway)
    bring_up(c1, c2)
    yield c1, c2
    for gateway in (c1, c2):
        prepare(gateway)
        if gateway.run("ipsec", "whack", "--status", check=False).returncode:
            gateway.start_pluto()
    tear_down(c1, c2)


def verify(gateway: Gateway, *args: str) -> tuple[int, dict[str, Any], dict[str, str]]:
    """Return the exit code, the claims by name, and their states by name."""
    done = run(gateway, "verify", FILE, "--format", "json", *args)
    (proof,) = json.loads(done.stdout)["result"]["proofs"]
    claims = {claim["claim"]: claim for claim in proof["claims"]}
    return done.returncode, claims, {name: claim["state"] for name, claim in claims.items()}


def remove_guard(gateway: Gateway, local: str) -> None:
    """Disable the guard in the file, and delete the table."""
    gateway.write(FILE, f"{gateway.read(FILE)}guard: false\n")
    gateway.run("nft", "delete", "table", *guard.name(load("quickstart", local)).split())


def test_only_a_healthy_cable_is_proven(
    pair: tuple[Gateway, Gateway], record_property: Record
) -> None:
    c1, c2 = pair
    before = c1.snapshot()
    for gateway in pair:
        code, claims, states = verify(gateway, "--size-sweep")
        assert (code, set(states.values())) == (0, {"ok"}), claims
        for name in ("bytes out", "bytes in"):
            assert claims[name]["expected"] == COUNT * PING_BYTES <= claims[name]["found"]
        assert claims["MTU"]["found"] == claims["MTU"]["expected"] == 1408
    record_property(f"healthy: claims that hold, of {len(states)}", [*states.values()].count("ok"))
    assert c1.snapshot() == before  # nothing was changed

    # New SAs while verify runs: the old SAs and their counters are deleted.
    with c1.popen(PROGRAM, "verify", FILE, "--count", "100", "--format", "json") as running:
        packets_before = sent(c1)
        until(lambda: sent(c1) > packets_before + 10, "pings of verify's")
        for name in connections(c1):
            c1.whack("--rekey-ipsec", "--name", name)
        out, err = running.communicate(timeout=60)
    assert running.returncode == 0, out + err

    # The peer answers no pings.
    c2.run("nft", DROP_PINGS)
    code, claims, states = verify(c1)
    c2.run("nft", "delete", "table", "inet", "no_pings")
    assert code == 0
    assert "ICMP is blocked at 241.18.0.7" in claims["answered"]["text"]
    assert {states[name] for name in ("answered", "bytes in", "ESP in")} == {"not made"}
    assert {states[name] for name in ("sent", "bytes out", "ESP out", "clear text")} == {"ok"}

    # A device whose MTU is too large for packets over ESP.
    c1.ip("link set vxlan-tunnel mtu 1412")
    code, claims, states = verify(c1, "--size-sweep")
    c1.ip("link set vxlan-tunnel mtu 1408")
    assert (code, [name for name, state in states.items() if state != "ok"]) == (1, ["MTU"])
    assert claims["MTU"]["found"] == 1408
    assert claims["MTU"]["text"].endswith("device MTU 1412")

    # Policies flushed: the guard drops everything, and nothing is proven.
    for gateway in pair:
        gateway.ip("xfrm policy flush")
    code, claims, states = verify(c1)
    assert code == 1
    assert claims["clear text"]["found"] == claims["ESP out"]["found"] == 0
    assert {states[name] for name in ("answered", "bytes out", "ESP out")} == {"FAILED"}
    record_property("flushed, guarded: answers", claims["answered"]["found"])
    record_property("flushed, guarded: frames in clear text", claims["clear text"]["found"])

    # Policies flushed, and no guard: the overlay works, in clear text.
    for gateway, local in ((c1, "cluster1"), (c2, "cluster2")):
        remove_guard(gateway, local)
    assert ping(c1).returncode == 0
    code, claims, states = verify(c1)
    assert code == 1
    assert claims["answered"]["found"] == COUNT
    assert claims["clear text"]["found"] >= 2 * COUNT
    assert claims["bytes out"]["found"] == claims["ESP out"]["found"] == 0
    record_property("flushed, no guard: frames in clear text", claims["clear text"]["found"])

    c1.kill_pluto()
    dead = run(c1, "verify", FILE)
    assert (dead.returncode, dead.stdout) == (3, "")
    assert dead.stderr.startswith("cablectl: pluto isn't running\n")


def sent(gateway: Gateway) -> int:
    """Return how many packets the overlay's device has sent."""
    return int(gateway.run("cat", "/sys/class/net/vxlan-tunnel/statistics/tx_packets").stdout)


def test_packets_decrypted_before_the_capture_are_no_clear_text_with_a_guard(lab: Lab) -> None:
    """With bare ESP and receive offload, the capture gets decrypted packets instead of ESP."""
    c1, c2 = lab.gateways
    for gateway in (c1, c2):
        gateway.write(FILE, document("transport gre v6") + "ipsec: {encapsulation: no}\n")
        gateway.write(PSK_FILE, f"{PSK}\n")
    bring_up(c1, c2)
    try:
        code, _, states = verify(c1, "--size-sweep")
        assert (code, set(states.values())) == (0, {"ok"})
        lab.switch.run("ethtool", "-K", "c1", "tso", "off")
        c1.run("ethtool", "-K", "eth0", "gro", "on")
        code, claims, states = verify(c1)
        assert (code, claims["ESP in"]["found"]) == (0, 0)
        assert (states["ESP in"], states["clear text"]) == ("not made", "ok")
        c1.run("nft", "delete", "table", *guard.name(shaped("transport gre v6")).split())
        code, claims, states = verify(c1)
        assert (code, states["clear text"]) == (1, "FAILED")
        assert claims["clear text"]["text"].endswith("ethtool -K eth0 gro off")
    finally:
        c1.run("ethtool", "-K", "eth0", "gro", "off")
        lab.switch.run("ethtool", "-K", "c1", "tso", "on")
        tear_down(c1, c2)


def test_a_capture_knows_what_it_lost(lab: Lab) -> None:
    done = lab.gateways[0].run(sys.executable, "-c", OVERFLOW)
    frames, lost = map(int, done.stdout.split())
    assert frames == 4 * COUNT  # each packet and each ICMP error, outgoing and incoming
    assert 0 < lost < frames


def received(gateway: Gateway) -> int:
    """Return how many packets eth0 has received."""
    return int(gateway.run("cat", "/sys/class/net/eth0/statistics/rx_packets").stdout)


def test_a_flood_by_an_outsider_takes_no_memory_and_loses_no_frame(
    pair: tuple[Gateway, Gateway], record_property: Record
) -> None:
    c1, c2 = pair
    c2.ip(f"address add {OUTSIDER}/32 dev eth0")
    command = (PROGRAM, "verify", FILE, "--count", "200", "--format", "json")
    before, flood = received(c1), 0
    try:
        with c2.popen(sys.executable, "-c", FLOODING, OUTSIDER, "172.18.0.8") as flooding:
            while flood < FLOOD:
                until(lambda: received(c1) > before + 100, "the flood")
                done = c1.run(sys.executable, "-c", MEASURED, *command, check=False)
                (proof,) = json.loads(done.stdout)["result"]["proofs"]
                claims = {claim["claim"]: claim for claim in proof["claims"]}
                assert {claim["state"] for claim in claims.values()} == {"ok"}, claims
                _, frames = map(int, re.findall(r"\d+", claims["lost"]["text"])[:2])
                assert frames < 2000  # the cable's own
                mebibytes = int(done.stderr.split()[-1]) / 1024
                assert mebibytes < 80
                flood = received(c1) - before
            flooding.kill()
    finally:
        c2.ip(f"address delete {OUTSIDER}/32 dev eth0")
    record_property("flooded: packets that verify didn't read", flood)
    record_property("flooded: memory of verify, MiB", round(mebibytes))
