"""Measures what `cablectl watch` costs while nothing happens.

Run `tests/lab/boot .venv/bin/python -m benchmarks.watch [CABLES [SECONDS [RELEASE]]]`: 100 cables,
300 seconds, Libreswan 4.10. The peers are one pluto with as many addresses; a program there answers
the echoes out of the packets of VXLAN. The CPU time is that of the watch and of all its commands.
"""

from __future__ import annotations

import os
import re
import sys
import time

from cablectl.config import native
from tests.lab.cable import FILE
from tests.lab.gateways import Gateway, Lab
from tests.lab.rooms import PROGRAM, until

from .connect import gateways
from .peers import document

_ARGUMENTS = dict(enumerate(sys.argv[1:]))
CABLES = int(_ARGUMENTS.get(0, "100"))
SECONDS = float(_ARGUMENTS.get(1, "300"))
RELEASE = _ARGUMENTS.get(2, "4.10")
CPU, MEMORY = 1.0, 60.0  # the most that is allowed: percent of a processor, MiB
LIMIT = 900.0  # seconds until the cables are up
SETTLED = 75.0  # seconds; a watch asks pluto often in the minute after a cable was down
# Answers each echo request in a VXLAN packet from the address to which it was sent.
ANSWER = """
import socket, struct
IP_PKTINFO = 8
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
udp.bind(("", 4789))
def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return struct.pack("!H", ~total & 0xFFFF)
while True:
    packet, control, _, sender = udp.recvmsg(2048, 64)
    head, frame = packet[:8], packet[8:]
    ip, icmp = frame[14:34], frame[34:]
    if frame[12:14] != b"\\x08\\x00" or ip[0] != 0x45 or ip[9] != 1 or icmp[0] != 8:
        continue
    icmp = bytes(4) + icmp[4:] + bytes(len(icmp) % 2)
    icmp = icmp[:2] + checksum(icmp) + icmp[4:]
    swapped = frame[6:12] + frame[:6] + frame[12:14] + ip[:12] + ip[16:20] + ip[12:16] + icmp
    own = control[0][2][8:12]  # struct in_pktinfo: the address to which the packet came
    info = struct.pack("@i4s4x", 0, own)
    udp.sendmsg([head + swapped], [(socket.IPPROTO_IP, IP_PKTINFO, info)], 0, (sender[0], 4789))
"""


def main() -> None:
    """Print CPU time and memory; exit 1 if either is too large."""
    network = native.parse(document(CABLES), "bench.yaml")
    with Lab() as lab:
        hub, peers = gateways(lab, network, CABLES, RELEASE)
        with (
            peers.popen("python3", "-c", ANSWER) as answers,
            # A pipe that nobody reads would hold it up.
            hub.popen(
                "sh", "-c", f"exec {PROGRAM} watch {FILE} --timeout {LIMIT:.0f} 2>/dev/null"
            ) as watch,
        ):
            try:
                until(lambda: answering(hub) == CABLES, "answers of all peers", LIMIT)
                time.sleep(SETTLED)
                cpu, memory = measure(hub)
            finally:
                watch.kill()
                answers.kill()
    print(f"{CABLES} cables, {SECONDS:.0f} s: {cpu:.2f} % of a processor, {memory:.1f} MiB")
    sys.exit(cpu > CPU or memory > MEMORY)


def answering(hub: Gateway) -> int:
    """Return how many peers answer echoes."""
    time.sleep(5)  # each look takes a while
    states = hub.run("sh", "-c", "cat /run/cablectl/*.health", check=False).stdout
    return states.count('"answering"')


def measure(hub: Gateway) -> tuple[float, float]:
    """Return the CPU time in percent, with that of all commands, and the memory in MiB."""
    pid = hub.run("pgrep", "-f", "cablectl watch").stdout.split()[0]
    before = spent(hub, pid)
    time.sleep(SECONDS)
    used = 100 * (spent(hub, pid) - before) / SECONDS
    resident = re.search(
        r"^VmRSS:\s+(\d+) kB", hub.run("cat", f"/proc/{pid}/status").stdout, re.MULTILINE
    )
    assert resident
    return used, int(resident[1]) / 1024


def spent(hub: Gateway, pid: str) -> float:
    """Return the seconds of CPU time of a process and of the children it has waited for."""
    fields = hub.run("cat", f"/proc/{pid}/stat").stdout.rpartition(")")[2].split()
    return sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
