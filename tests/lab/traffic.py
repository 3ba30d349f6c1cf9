"""A cable from connect to teardown, with what travels in it and what a wire shows of it."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from difflib import unified_diff

from cablectl.linux import mtu
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode

from .cable import FILE, PSK, PSK_FILE, child_sas, connected, run, torn_down
from .gateways import Gateway, Lab

Sides = Sequence[tuple[Gateway, Cable]]  # a gateway, and the cable as it sees it
ICMP = 8  # bytes of header
PATTERN = "5ca1ab1e"  # what every ping is full of, and nothing else is


@contextmanager
def hosts(sides: Sides) -> Iterator[None]:
    """Have each gateway hold an address in each of its own cluster's subnets."""
    with ExitStack() as stack:
        for gateway, cable in sides:
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
        return mtu.clear(1500, overlay_of(cable.overlay).headers, version=version)
    # Transport mode has the inner IP header outside, in tunnel mode it is payload.
    extra = -mtu.IP_HEADER[version] if cable.mode is Mode.TRANSPORT else 0
    extra = overlay_of(cable.overlay).headers if cable.overlay else extra
    return mtu.protected(1500, extra, version=version, encapsulated=True)


def up_and_away(lab: Lab, sides: Sides, text: str) -> None:
    """Bring a cable up, see what passes and what the wire shows, and take it away again."""
    cable = sides[0][1]
    gateways = [gateway for gateway, _ in sides]
    for gateway in gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in gateways]
    with lab.capture(getattr(cable.overlay, "port", None) or 4789) as wire:
        with hosts(sides):
            try:
                connected(*gateways)
                for gateway, seen in sides:
                    assert child_sas(gateway) == sorted(each.name for each in seen.connections)
                    talks(gateway, seen)
                    again = run(gateway, "connect", FILE)
                    assert again.stdout.startswith("nothing to do: "), again.stderr
                is_up(sides)
                proves(*sides[0])
            finally:
                torn_down(*gateways)
        for gateway, old in zip(gateways, before, strict=True):
            assert changes(old, gateway.snapshot()) == ""
    encrypted, summary = cable.mode is not Mode.NONE, wire.summary()
    assert (summary["overlay"].frames == 0) == encrypted
    assert (summary["esp-in-udp"].frames > 0) == encrypted
    assert any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames) != encrypted
    full = summary["esp-in-udp" if encrypted else "overlay"].largest
    assert 1500 - 4 < full <= 1500


def is_up(sides: Sides) -> None:
    """Status says so: with the file, and where pluto has connections to tell it by, without."""
    (first, cable), (last, _) = sides
    for gateway, args in ((first, (FILE,)), (last, () if cable.connections else (FILE,))):
        told = run(gateway, "status", *args)
        assert told.returncode == 0, told.stdout + told.stderr


def proves(gateway: Gateway, cable: Cable) -> None:
    """`verify` says of the cable what the capture of the lab will: encrypted, unless mode none."""
    done = run(gateway, "verify", FILE, "--count", "5", "--size-sweep", "--format", "json")
    (told,) = json.loads(done.stdout)["result"]["proofs"]
    failed = {each["claim"] for each in told["claims"] if each["state"] != "ok"}
    if cable.mode is Mode.NONE:
        assert (done.returncode, told["proven"]) == (1, False)
        assert failed == {"bytes out", "bytes in", "ESP out", "ESP in", "clear text"}
    else:
        assert (done.returncode, told["proven"], failed) == (0, True, set()), done.stdout
    assert told["claims"][-1]["found"] == largest(cable)


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
