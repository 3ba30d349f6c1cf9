"""A cable from connect to teardown: its traffic, and the frames on the wire meanwhile."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import unified_diff
from signal import SIGINT

from cablectl.linux import mtu
from cablectl.linux.overlay.registry import headers_of, overlay_of
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode

from .cable import FILE, PSK, PSK_FILE, bring_up, child_sas, run, tear_down
from .gateways import Gateway, Lab
from .wire import Capture

Sides = Sequence[tuple[Gateway, Cable]]  # each gateway, with the cable seen from that gateway
ICMP = 8  # bytes of an echo request's header
PATTERN = "5ca1ab1e"  # the payload of every ping repeats these bytes; no other packet has them


@contextmanager
def cluster_hosts(sides: Sides) -> Iterator[None]:
    """Give each gateway an address in each subnet of the gateway's own cluster."""
    with ExitStack() as stack:
        for gateway, cable in sides:
            for network in cable.local.networks:
                stack.enter_context(gateway.holds(str(network[1])))
        yield


def inner_addresses(cable: Cable) -> tuple[str, str]:
    """Return local and remote address of the packets that the cable carries."""
    if cable.overlay:
        return str(cable.local_vtep.ip), str(cable.remote_vtep.ip)
    if cable.mode is Mode.TUNNEL:
        return str(cable.local.networks[0][1]), str(cable.remote.networks[0][1])
    return str(cable.local.address), str(cable.remote.address)


def ping(gateway: Gateway, source: str, to: str, size: int) -> subprocess.CompletedProcess[str]:
    """Send three pings as IP packets of `size` bytes, without fragmentation."""
    payload = size - ICMP - mtu.IP_HEADER[6 if ":" in to else 4]
    options = ["-c", "3", "-i", "0.1", "-W", "2", "-M", "do", "-p", PATTERN, "-s", str(payload)]
    return gateway.run("ping", *options, *(("-I", source) if source else ()), to, check=False)


def largest(cable: Cable) -> int:
    """Return the largest IP packet, in bytes, that the cable carries on a wire of 1500 bytes."""
    version = cable.local.address.version
    if cable.overlay and cable.mode is Mode.NONE:
        return mtu.clear(1500, overlay_of(cable.overlay).headers, version=version)
    # In tunnel mode the inner IP header is payload; in transport mode it is the outer header.
    extra = -mtu.IP_HEADER[version] if cable.mode is Mode.TRANSPORT else 0
    extra = headers_of(cable, cable.overlay) if cable.overlay else extra
    return mtu.protected(1500, extra, version=version, encapsulated=True)


def bring_up_and_tear_down(lab: Lab, sides: Sides, text: str) -> None:
    """Bring a cable up, check traffic and frames, tear the cable down, and check what is left."""
    cable = sides[0][1]
    gateways = [gateway for gateway, _ in sides]
    for gateway in gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in gateways]
    with lab.capture(getattr(cable.overlay, "port", None) or 4789) as wire:
        with cluster_hosts(sides):
            try:
                bring_up(*gateways)
                for gateway, local in sides:
                    assert child_sas(gateway) == sorted(local.names)
                    assert_traffic(gateway, local)
                    again = run(gateway, "connect", FILE)
                    assert again.stdout.startswith("nothing to do: "), again.stderr
                assert_status_up(sides)
                assert_verified(*sides[0])
            finally:
                tear_down(*gateways)
        for gateway, snapshot in zip(gateways, before, strict=True):
            left = changes(snapshot, gateway.snapshot())
            assert left == "", left
    encrypted, summary = cable.mode is not Mode.NONE, wire.summary()
    assert (summary["overlay"].frames == 0) == encrypted
    assert (summary["esp-in-udp"].frames > 0) == encrypted
    assert any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames) != encrypted
    full = summary["esp-in-udp" if encrypted else "overlay"].largest
    assert 1500 - 4 < full <= 1500


@contextmanager
def standing(lab: Lab, gateways: Sequence[Gateway], text: str) -> Iterator[Capture]:
    """Bring a file's cables up; at the end tear them down, and check wire and hosts.

    Nothing may be left on a host, and nothing but IKE and ESP in UDP may have been on the wire.
    """
    for gateway in gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in gateways]
    with lab.capture() as wire:
        try:
            bring_up(*gateways)
            yield wire
        finally:
            tear_down(*gateways)
    for gateway, snapshot in zip(gateways, before, strict=True):
        left = changes(snapshot, gateway.snapshot())
        assert left == "", f"{gateway.name}: {left}"
    assert_encrypted(wire)


def assert_encrypted(wire: Capture) -> None:
    """Nothing of a cable was on the wire but IKE and ESP in UDP."""
    summary = wire.summary()
    assert (summary["overlay"].frames, summary["esp"].frames) == (0, 0)
    assert summary["esp-in-udp"].frames > 0
    assert not any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames)


def assert_reached(host: Gateway, *targets: str, source: str = "") -> None:
    """A host reaches others without the loss of one packet."""
    options = ["-c", "5", "-i", "0.1", "-W", "2", "-p", PATTERN]
    options += ["-I", source] if source else []
    for target in targets:
        done = host.run("ping", *options, target, check=False)
        assert " 5 received" in done.stdout, f"{host.name}: {done.stdout}{done.stderr}"


def assert_status_up(sides: Sides) -> None:
    """Status reports the cable as up, with the file and, if pluto has connections, without."""
    (first, cable), (last, _) = sides
    for gateway, args in ((first, (FILE,)), (last, () if cable.connections else (FILE,))):
        status = run(gateway, "status", *args)
        assert status.returncode == 0, status.stdout + status.stderr


def assert_verified(gateway: Gateway, cable: Cable) -> None:
    """`verify` agrees with the lab's capture: the cable is encrypted, unless mode is none."""
    done = run(gateway, "verify", FILE, "--count", "5", "--size-sweep", "--format", "json")
    (proof,) = json.loads(done.stdout)["result"]["proofs"]
    failed = {claim["claim"] for claim in proof["claims"] if claim["state"] != "ok"}
    if cable.mode is Mode.NONE:
        assert (done.returncode, proof["proven"]) == (1, False)
        assert failed == {"bytes out", "bytes in", "ESP out", "ESP in", "clear text"}
    else:
        assert (done.returncode, proof["proven"], failed) == (0, True, set()), done.stdout
    assert proof["claims"][-1]["found"] == largest(cable)


def changes(before: dict[str, str], after: dict[str, str]) -> str:
    """Return the lines in which two snapshots differ."""
    return "\n".join(
        f"{kind}: {line}"
        for kind in before
        for line in unified_diff(before[kind].splitlines(), after[kind].splitlines(), n=0)
    )


def assert_traffic(gateway: Gateway, cable: Cable) -> None:
    """Packets of the largest size pass, one byte more doesn't, and hosts of the subnets answer."""
    source, to = inner_addresses(cable)
    done = ping(gateway, source, to, largest(cable))
    assert done.returncode == 0, done.stdout + done.stderr
    assert ping(gateway, source, to, largest(cable) + 1).returncode != 0
    for network in cable.remote.networks:
        # Over an overlay, the route sets the source address.
        host = "" if cable.overlay else str(cable.local.networks[0][1])
        done = ping(gateway, host, str(network[1]), 200)
        assert done.returncode == 0, done.stdout + done.stderr


@contextmanager
def pinged(gateway: Gateway, source: str, target: str) -> Iterator[None]:
    """Have a host of the gateway's cluster ping a remote host all along."""
    options = ("-i", "0.05", "-p", PATTERN, "-I", source, target)
    with gateway.popen("ping", *options) as process:
        try:
            yield
        finally:
            process.send_signal(SIGINT)
            process.communicate(timeout=20)


def clear(frames: Sequence[bytes], gateway: Gateway) -> int:
    """Count the frames with a ping in clear text that a gateway sent."""
    (link,) = json.loads(gateway.run("ip", "-j", "link", "show", "eth0").stdout)
    mac, ping = bytes.fromhex(link["address"].replace(":", "")), bytes.fromhex(PATTERN) * 4
    return sum(frame[6:12] == mac and ping in frame for frame in frames)
