"""The keys of each pair of a mesh, rotated on all gateways at once: behind NAT and beside a PPK."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import combinations, permutations

import pytest

from . import boxes, extent
from .cable import FILE, evidence, tear_down
from .gateways import Gateway, Lab
from .mesh import run_on_all
from .rooms import PROGRAM
from .stream import flowing
from .traffic import PATTERN, changes

pytestmark = pytest.mark.lab

ALL, OWN = "/tmp/all-keys", "/etc/cablectl/keys"
PPK_FILE, PPK = "/etc/cablectl/ppk", "a PPK of the lab, 40 characters or more: yes"
ADDRESSES = {"c1": "172.18.0.8", "c2": "172.18.0.7", "c3": "10.0.0.4"}
RATE = 300  # packets a second of each of six streams
Record = Callable[[str, object], None]


@pytest.fixture
def mesh() -> Iterator[tuple[Lab, list[Gateway]]]:
    """Two servers, and their client behind a box that masquerades."""
    with Lab() as lab:
        gateways = [
            lab.gateway(name, f"{ADDRESSES[name]}/16", f"2001:db8::{name[1]}/64")
            for name in ("c1", "c2")
        ]
        box = lab.gateway("box", "172.18.0.30/16", "2001:db8::30/64")
        boxes.masquerade(box)
        gateways.append(lab.behind("c3", box, f"{ADDRESSES['c3']}/24"))
        for gateway in gateways:
            gateway.start_pluto()
        yield lab, gateways


def document() -> str:
    endpoints = "".join(
        f"  - {{cluster: {name}, hostname: {name}, address: {address},"
        f" subnets: [10.4{name[1]}.0.0/16], preferred_server: {str(name != 'c3').lower()}}}\n"
        for name, address in ADDRESSES.items()
    )
    ipsec = f"ipsec: {{psk: {{directory: {OWN}}}, ppk: {{file: {PPK_FILE}}}}}\n"
    return f"version: 1\nmode: tunnel\noverlay: vxlan\nendpoints:\n{endpoints}{ipsec}"


def hand_out(gateways: list[Gateway], *options: str) -> dict[str, str]:
    """Make the keys of all pairs on the first gateway, and give each gateway its own."""
    first, every = gateways[0], dict[str, str]()
    new = (PROGRAM, "secret", "new", "--pairs", FILE, *options, "--out")
    first.run(*new, ALL)
    for gateway in gateways:
        copies = f"/tmp/for-{gateway.name}"
        first.run(*new, copies, "--for", gateway.name, "--from", ALL)
        gateway.run("mkdir", "-m", "700", "-p", OWN)
        for name in first.run("ls", copies).stdout.split():
            every[name] = first.read(f"{copies}/{name}")
            gateway.write(f"{OWN}/{name}", every[name])
    first.run("rm", "-r", ALL, *(f"/tmp/for-{gateway.name}" for gateway in gateways))
    return every


def host(gateway: Gateway, peer: Gateway) -> str:
    """Return the address of a gateway's host that talks with a peer's host."""
    return f"10.4{gateway.name[1]}.0.1{peer.name[1]}"


@pytest.mark.timeout(1800)
@pytest.mark.skipif(not extent.ALL, reason="make rotation")
def test_all_keys_at_once(mesh: tuple[Lab, list[Gateway]], record_property: Record) -> None:
    lab, gateways = mesh
    for gateway in gateways:
        gateway.write(FILE, document())
        gateway.write(PPK_FILE, f"{PPK}\n")
    before = [gateway.snapshot() for gateway in gateways]
    old = hand_out(gateways)
    pairs = list(combinations(gateways, 2))
    with ExitStack() as stack, lab.capture(esp_in_udp=False) as wire:
        for one, other in permutations(gateways, 2):
            stack.enter_context(one.holds(host(one, other)))
        for code, text in run_on_all(gateways, "connect", FILE, "--timeout", "60"):
            assert code == 0, text + "".join(map(evidence, gateways))
        with ExitStack() as flows:
            streams = [
                flows.enter_context(flowing(one, host(one, other), other, host(other, one), RATE))
                for one, other in pairs
            ]
            new = hand_out(gateways, "--next")
            for code, text in run_on_all(gateways, "rotate", FILE, "--timeout", "100"):
                assert code == 0, text
        for code, text in run_on_all(gateways, "connect", FILE):
            assert text.startswith("nothing to do"), (code, text)
        assert wire.summary()["overlay"].frames == 0
        assert not any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames)
    assert set(new) == {f"{name}.next" for name in old}
    for gateway in gateways:
        for name in gateway.run("ls", OWN).stdout.split():
            assert gateway.read(f"{OWN}/{name}") == new[f"{name}.next"] != old[name]
        policies = re.findall(r":   policy: (.*)", gateway.whack("--status"))
        assert policies
        assert all("PPK_INSIST" in policy for policy in policies), policies
    for (one, other), both in zip(pairs, streams, strict=True):
        for (near, far), counted in zip(((one, other), (other, one)), both.counted, strict=True):
            name = f"a mesh, {near.name} to {far.name}: lost"
            record_property(name, f"{counted.lost} of {counted.sent}")
            assert counted.lost == 0, counted
            assert counted.sent > 1000
    tear_down(*gateways)
    for gateway, snapshot in zip(gateways, before, strict=True):
        left = changes({**snapshot, "files": ""}, {**gateway.snapshot(), "files": ""})
        assert left == "", left
