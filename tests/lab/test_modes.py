"""Every mode and overlay, IPv4 and IPv6, with the installed program on two real gateways."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from difflib import unified_diff

import pytest

from cablectl import mtu
from cablectl.cable import Cable
from cablectl.model import Mode
from cablectl.overlay import headers
from tests.documents import document, shaped

from .cable import FILE, PSK, PSK_FILE, child_sas, run, torn_down
from .cable import connected as bring_up
from .gateways import Gateway, Lab

pytestmark = pytest.mark.lab

SHAPES = (
    "tunnel v4",
    "tunnel v6",
    "tunnel v4 server",
    "transport vxlan v4 server",
    "transport vxlan v6",
    "transport gre v4",
    "transport gre v6",
    "transport geneve v4",
    "transport geneve v6",
    "transport none v4",
    "transport none v6",
    "none vxlan v4",
    "none vxlan v6",
)
ICMP = 8  # bytes of header
PATTERN = "5ca1ab1e"  # what every ping is full of, and nothing else is


def ends(shape: str) -> tuple[Cable, Cable]:
    """Return the cable as c1 and as c2 see it."""
    return shaped(shape, "cluster1"), shaped(shape, "cluster2")


@contextmanager
def hosts(lab: Lab, shape: str) -> Iterator[None]:
    """Have each gateway hold an address in each of its own cluster's subnets."""
    with ExitStack() as stack:
        for gateway, cable in zip(lab.gateways, ends(shape), strict=True):
            for network in cable.local.networks:
                stack.enter_context(gateway.holds(str(network[1])))
        yield


def target(cable: Cable) -> tuple[str, str]:
    """Return the two addresses between which the cable's own packets travel."""
    if cable.overlay:
        return str(cable.local_vtep.ip), str(cable.remote_vtep.ip)
    if cable.mode is Mode.TUNNEL:
        return str(cable.local.networks[0][1]), str(cable.remote.networks[0][1])
    return str(cable.local.address), str(cable.remote.address)


def ping(gateway: Gateway, source: str, to: str, size: int) -> subprocess.CompletedProcess[str]:
    """Ping without fragmentation with IP packets of `size` bytes, three times."""
    payload = size - ICMP - mtu.IP_HEADER[6 if ":" in to else 4]
    options = ["-c", "3", "-i", "0.1", "-W", "2", "-M", "do", "-p", PATTERN, "-s", str(payload)]
    return gateway.run("ping", *options, *(("-I", source) if source else ()), to, check=False)


def largest(cable: Cable) -> int:
    """Return how long an IP packet in the cable may be on a wire of 1500 bytes, in bytes."""
    version = cable.local.address.version
    if cable.overlay and cable.mode is Mode.NONE:
        return mtu.clear(1500, headers(cable.overlay), version=version)
    # Transport mode has the inner IP header outside, in tunnel mode it is payload.
    extra = -mtu.IP_HEADER[version] if cable.mode is Mode.TRANSPORT else 0
    extra = headers(cable.overlay) if cable.overlay else extra
    return mtu.protected(1500, extra, version=version, encapsulated=True)


@pytest.fixture
def gateways(lab: Lab) -> Iterator[Lab]:
    """Gateways without a cable afterwards, whatever the test did."""
    yield lab
    torn_down(lab)


@pytest.mark.parametrize("shape", SHAPES)
def test_up_and_away(gateways: Lab, shape: str) -> None:
    lab = gateways
    cables = ends(shape)
    port = getattr(cables[0].overlay, "port", None) or 4789
    for gateway in lab.gateways:
        gateway.write(FILE, document(shape))
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in lab.gateways]
    with lab.capture(port) as wire:
        with hosts(lab, shape):
            bring_up(lab)
            for gateway, cable in zip(lab.gateways, cables, strict=True):
                assert child_sas(gateway) == sorted(each.name for each in cable.connections)
                talks(gateway, cable)
                again = run(gateway, "connect", FILE)
                assert again.returncode == 0
                assert again.stdout.startswith("nothing to do: "), again.stderr
            torn_down(lab)
        for gateway, old in zip(lab.gateways, before, strict=True):
            assert changes(old, gateway.snapshot()) == ""
    encrypted = cables[0].mode is not Mode.NONE
    summary = wire.summary()
    assert (summary["overlay"].frames == 0) == encrypted
    assert (summary["esp-in-udp"].frames > 0) == encrypted
    assert any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames) != encrypted
    full = summary["esp-in-udp" if encrypted else "overlay"].largest
    assert 1500 - 4 < full <= 1500


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    """Return the lines that two snapshots don't share."""
    return "\n".join(
        f"{kind}: {line}"
        for kind in before
        for line in unified_diff(before[kind].splitlines(), after[kind].splitlines(), n=0)
    )


def talks(gateway: Gateway, cable: Cable) -> None:
    """Packets of exactly the largest size pass; so do those between hosts of the subnets."""
    source, to = target(cable)
    done = ping(gateway, source, to, largest(cable))
    assert done.returncode == 0, done.stdout + done.stderr
    assert ping(gateway, source, to, largest(cable) + 1).returncode != 0
    for network in cable.remote.networks:
        # Over an overlay the route itself names the source.
        speaker = "" if cable.overlay else str(cable.local.networks[0][1])
        done = ping(gateway, speaker, str(network[1]), 200)
        assert done.returncode == 0, done.stdout + done.stderr
