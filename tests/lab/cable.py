"""The installed program on a lab's gateways: prepare, bring up, tear down, and look at a cable."""

from __future__ import annotations

import subprocess
from itertools import pairwise
from pathlib import Path

from .gateways import PLUTO_LOG, Gateway
from .rooms import PROGRAM, Process

EXAMPLES = Path(__file__).parent.parent.parent / "examples"
FILE = "/etc/cablectl/cable.yaml"
PSK_FILE = "/etc/cablectl/psk"
PSK = "a key of the lab, 40 characters or more: yes"
VTEP = {"c1": "241.18.0.8", "c2": "241.18.0.7"}
PEER = {"c1": "c2", "c2": "c1"}
CLUSTER = {"c1": "cluster1", "c2": "cluster2"}


def prepare(gateway: Gateway, example: str = "quickstart", psk: str = PSK) -> None:
    """Write an example's file and the pre-shared key."""
    gateway.write(FILE, (EXAMPLES / f"{example}.yaml").read_text())
    gateway.write(PSK_FILE, f"{psk}\n")


def run(gateway: Gateway, *args: str) -> subprocess.CompletedProcess[str]:
    """Run the program; any exit code is accepted."""
    return gateway.run(PROGRAM, *args, check=False, timeout=150)


def bring_up(*gateways: Gateway) -> None:
    """Bring the cable up on all gateways at once; AssertionError with connect's error."""
    running = [gateway.popen(PROGRAM, "connect", FILE) for gateway in gateways]
    for process in running:
        out, err = process.communicate(timeout=150)
        assert process.returncode == 0, err
        assert " up, " in out  # is or are


def tear_down(*gateways: Gateway) -> None:
    """Tear the cable down on all gateways at once; AssertionError with teardown's error."""
    running = [gateway.popen(PROGRAM, "teardown", FILE) for gateway in gateways]
    for process in running:
        _, err = process.communicate(timeout=150)
        assert process.returncode == 0, err


def until_it_waits(connect: Process) -> None:
    """Read what connect shows until it waits for the Child SAs."""
    assert connect.stderr
    next(line for line in connect.stderr if "] wait: " in line)


def sas(gateway: Gateway) -> set[str]:
    """Return the SPIs of all SAs, except SPI 0 of SAs that the kernel waits for."""
    words = gateway.run("ip", "xfrm", "state", "list", "nokeys").stdout.split()
    return {spi for word, spi in pairwise(words) if word == "spi"} - {"0x00000000"}


def child_sas(gateway: Gateway) -> list[str]:
    """Return the names of the connections with a Child SA, one name for each Child SA."""
    lines = gateway.whack("--trafficstatus").splitlines()
    return sorted(line.split('"')[1] for line in lines)


def connections(gateway: Gateway) -> list[str]:
    """Return the names of the cable's connections on this gateway."""
    peer = PEER[gateway.name]
    address = VTEP[peer].replace("241", "172", 1).replace(".", "-")
    return [f"submariner-cable-{CLUSTER[peer]}-{address}-{number}" for number in (0, 1)]


def evidence(gateway: Gateway) -> str:
    """Return SAs, policies, pluto's states and the end of pluto's log, for a failed test."""
    script = "ip -s xfrm state list nokeys; ip xfrm policy list nosock; ipsec whack --showstates"
    kernel = gateway.run("sh", "-c", script, check=False).stdout
    return f"{gateway.name}:\n{kernel}{gateway.read(PLUTO_LOG)[-5000:]}"


def ping(gateway: Gateway, *options: str) -> subprocess.CompletedProcess[str]:
    """Ping the peer's VTEP twice; any exit code is accepted."""
    target = VTEP[PEER[gateway.name]]
    return gateway.run("ping", "-c", "2", "-i", "0.2", "-W", "2", *options, target, check=False)
