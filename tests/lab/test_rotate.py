"""A new key for cables that are up: no packet of a stream is lost, and the old key is refused.

`make rotation` runs every shape, and the kill at every step; `make lab` one rotation in phases.
"""

from __future__ import annotations

import json
import secrets
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from ipaddress import ip_network

import pytest

from cablectl.config import native
from cablectl.model.rotation import RotationPhase
from cablectl.model.wishes import OverlayKind

from . import extent
from .cable import FILE, PSK, PSK_FILE, bring_up, run, tear_down, until_it_waits
from .gateways import Gateway, Lab, two_gateways
from .mesh import run_on_all
from .rooms import PROGRAM
from .stream import Stream, flowing
from .traffic import PATTERN, changes
from .warm import NEW, STEP, Warm

pytestmark = pytest.mark.lab

NEXT = f"{PSK_FILE}.next"
PEER = {"c1": "cluster2", "c2": "cluster1"}
ADDRESSES = {"v4": ("172.18.0.8", "172.18.0.7"), "v6": ("2001:db8::8", "2001:db8::7")}
SUBNETS = {"v4": ("10.44.0.0/16", "10.45.0.0/16"), "v6": ("2001:db8:44::/48", "2001:db8:45::/48")}
SHAPES = [
    f"{mode} {overlay} {version}"
    for mode in ("transport", "tunnel")
    for overlay in OverlayKind
    for version in ("v4", "v6")
    if overlay is not OverlayKind.NONE
]
RELEASES = ["4.10 5.2", "5.2 5.2"]
# Each overlay, each mode and each version of IP for the other releases.
CHOSEN = ["transport vxlan v4", "transport gre v6", "tunnel geneve v6", "tunnel ipip v4"]
WAIT = "2"  # seconds for a peer that doesn't follow
AGREED = "ipsec: {esn: yes, pfs_group: modp2048, esp: [aes_gcm-null]}\n"  # docs/libreswan.md
Record = Callable[[str, object], None]
Test = Callable[..., None]


def slow(test: Test) -> Test:
    """Leave a test to `make rotation`; it may take minutes on a machine that does other things."""
    limited: Test = pytest.mark.timeout(1800)(test)
    left: Test = pytest.mark.skipif(not extent.ALL, reason="make rotation")(limited)
    return left


def document(shape: str, more: str = "") -> str:
    mode, overlay, version = shape.split()
    endpoints = "".join(
        f"  - {{cluster: cluster{n}, hostname: c{n}, address: '{address}',"
        f" subnets: ['{subnet}']}}\n"
        for n, (address, subnet) in enumerate(
            zip(ADDRESSES[version], SUBNETS[version], strict=True), start=1
        )
    )
    return f"version: 1\nmode: {mode}\noverlay: {overlay}\nendpoints:\n{endpoints}{more}"


def hosts(shape: str) -> list[str]:
    """Return an address of a host in the subnet of each end."""
    return [str(ip_network(subnet)[9]) for subnet in SUBNETS[shape.split()[2]]]


def hand_out(gateways: Sequence[Gateway]) -> str:
    """Give all gateways the same next key."""
    key = secrets.token_hex(32)
    for gateway in gateways:
        gateway.write(NEXT, f"{key}\n")
    return key


@pytest.fixture(scope="module")
def programs(lab: Lab) -> Iterator[dict[str, Warm]]:
    """Start the program on each gateway, which imports it once for many runs."""
    with ExitStack() as stack:
        yield {
            gateway.name: stack.enter_context(closing(Warm(gateway))) for gateway in lab.gateways
        }


@contextmanager
def up(lab: Lab, shape: str, more: str = "") -> Iterator[Stream]:
    """Bring a cable up, with a stream between hosts; nothing may be lost, clear or left behind."""
    text, gateways = document(shape, more), lab.gateways
    network = native.parse(text, FILE)
    for gateway in gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in gateways]
    one, other = hosts(shape)
    with gateways[0].holds(one), gateways[1].holds(other):
        bring_up(*gateways)
        port = getattr(network.overlay, "port", None) or 4789
        with lab.capture(port, esp_in_udp=False) as wire:
            with flowing(gateways[0], one, gateways[1], other) as stream:
                time.sleep(0.3)
                yield stream
                time.sleep(0.3)
            summary = wire.summary()
            assert (summary["overlay"].frames, summary["esp"].frames) == (0, 0)
            assert not any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames)
        for gateway in gateways:
            done = run(gateway, "connect", FILE)
            assert done.stdout.startswith("nothing to do"), done.stdout + done.stderr
            assert run(gateway, "status", FILE).returncode == 0
        tear_down(*gateways)
    for gateway, snapshot in zip(gateways, before, strict=True):
        left = changes({**snapshot, "files": ""}, {**gateway.snapshot(), "files": ""})
        assert left == "", left
        files = gateway.snapshot()["files"]
        assert "rotate" not in files + gateway.snapshot()["nftables"]


def assert_none_lost(stream: Stream, record: Record, name: str) -> None:
    for counted in stream.counted:
        record(f"{name}: lost", f"{counted.lost} of {counted.sent}")
    assert [counted.lost for counted in stream.counted] == [0, 0], stream.counted
    assert all(counted.sent > 1000 for counted in stream.counted)


def rotate_all(gateways: Sequence[Gateway]) -> None:
    """Rotate on all gateways at once; AssertionError with the output if one fails."""
    for code, text in run_on_all(gateways, "rotate", FILE, "--timeout", "100"):
        assert code == 0, text


def test_in_phases(lab: Lab, programs: dict[str, Warm], record_property: Record) -> None:
    """Each end waits for the other one, and nothing is lost however long it waits."""
    c1, c2 = lab.gateways
    with up(lab, "transport vxlan v4") as stream:
        assert "nothing to rotate" in programs["c1"].run("rotate", FILE)[1]
        key = hand_out(lab.gateways)
        # Who runs rotate, and the phase that this end reaches.
        for name, reached in (
            ("c1", "prepared"),
            ("c2", "moved"),
            ("c1", "changed"),
            ("c2", "returned"),
        ):
            code, text = programs[name].run("rotate", FILE, "--timeout", WAIT)
            assert code == 5, text
            assert f"waits for {PEER[name]}" in text
            assert f"{PEER[name]}: {RotationPhase(reached).words}" in text
            code, text = programs[name].run("connect", FILE)  # it does no harm
            assert code == (0 if reached in ("prepared", "returned") else 3), text
        for gateway in (c1, c2):
            code, text = programs[gateway.name].run("rotate", FILE, "--timeout", "30")
            assert code == 0, text
            assert gateway.read(PSK_FILE) == f"{key}\n"
            assert gateway.read(NEXT) == ""
    assert_none_lost(stream, record_property, "in phases")

    # A gateway that still has the old key is refused.
    c2.write(PSK_FILE, f"{PSK}\n")
    with c1.popen(PROGRAM, "connect", FILE) as waiting:
        until_it_waits(waiting)
        code, text = programs["c2"].run("connect", FILE, "--timeout", "1")
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(60) == 130
    assert code == 1, text
    assert "authentication" in text
    tear_down(c1, c2)


def test_teardown_in_the_middle(lab: Lab, programs: dict[str, Warm]) -> None:
    c1, c2 = lab.gateways
    for gateway in lab.gateways:
        gateway.write(FILE, document("transport vxlan v4"))
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in lab.gateways]
    bring_up(c1, c2)
    hand_out(lab.gateways)
    for name, reached in (("c1", "prepared"), ("c2", "moved")):
        assert programs[name].run("rotate", FILE, "--timeout", WAIT)[0] == 5
        _, text = programs[name].run("status", FILE, "--format", "json")
        (cable,) = json.loads(text)["result"]["cables"]
        assert cable["rotation"] == reached
    tear_down(c1, c2)
    for gateway, snapshot in zip(lab.gateways, before, strict=True):
        gateway.run("rm", NEXT)
        assert changes(snapshot, gateway.snapshot()) == ""


@slow
@pytest.mark.parametrize("shape", SHAPES)
def test_at_the_same_time(lab: Lab, shape: str, record_property: Record) -> None:
    with up(lab, shape) as stream:
        hand_out(lab.gateways)
        rotate_all(lab.gateways)
    assert_none_lost(stream, record_property, shape)


@slow
@pytest.mark.parametrize("releases", RELEASES)
def test_with_other_releases(releases: str, record_property: Record) -> None:
    with two_gateways(*releases.split()) as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
        for shape in CHOSEN:
            with up(lab, shape, AGREED) as stream:
                hand_out(lab.gateways)
                rotate_all(lab.gateways)
            assert_none_lost(stream, record_property, f"Libreswan {releases}, {shape}")


@pytest.mark.parametrize("killed", [0, 1])
@slow
def test_killed_at_every_step(lab: Lab, killed: int, record_property: Record) -> None:
    """Each run on one gateway is killed at the first step at which no run was killed before it."""
    one, other = lab.gateways[killed], lab.gateways[1 - killed]
    announced, kills = set[str](), list[str]()
    with up(lab, "transport vxlan v4") as stream, closing(Warm(one)) as program:
        hand_out(lab.gateways)
        peer = other.popen(PROGRAM, "rotate", FILE, "--timeout", "400")
        try:
            while True:
                code, text = program.run("rotate", FILE, "--timeout", "100", kill_at=NEW)
                steps = [step[1] for step in map(STEP.match, text.splitlines()) if step]
                announced.update(steps)
                if code != -signal.SIGKILL:
                    break
                kills.append(steps[-1])
            assert code == 0, text
            text = "".join(peer.communicate(timeout=450))
            assert peer.returncode == 0, text
        finally:
            peer.kill()
    record_property(f"{one.name} killed and continued", f"{len(kills)} of {len(announced)} steps")
    assert announced == set(kills)
    assert len(announced) > 30
    assert_none_lost(stream, record_property, f"{one.name} killed at every step")
