"""The guard under a real systemd: from before the first address until somebody stops the unit."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import partial
from ipaddress import IPv4Address

import pytest

from cablectl.config import native
from cablectl.linux import guard, nftables
from cablectl.linux.nftables import Installed
from tests.support.documents import AGREED, document

from . import inject
from .booted import await_condition, booted, configure, systemctl, unit_property
from .cable import CLUSTER, FILE, PEER, PSK, PSK_FILE
from .counters import echo_requests
from .gateways import Gateway, Lab
from .rooms import Process
from .wire import Capture

# On a host with other labs beside it, systemd takes minutes to boot.
pytestmark = [pytest.mark.lab, pytest.mark.timeout(900)]

Record = Callable[[str, object], None]
CABLE, GUARD = "cablectl@cable.service", "cablectl-guard@cable.service"
TEXT = document("tunnel v4") + AGREED
NETWORK = native.parse(TEXT, FILE)
ANY_END = nftables.full_name(guard.unlocated(NETWORK).name)
EXACT = {  # the guard's table by gateway
    gateway: guard.name(*NETWORK.cables(NETWORK.named(cluster)))
    for gateway, cluster in CLUSTER.items()
}
ADDRESS = {"c1": "172.18.0.8", "c2": "172.18.0.7"}
HOST = {"c1": "10.44.0.1", "c2": "10.45.0.1"}  # a host of the gateway's subnet
PAYLOAD = "clear text of the lab"
# What brings the address up, as networking.service does. Here it waits until the test says so.
NETWORK_UNIT = """
[Unit]
DefaultDependencies=no
After=network-pre.target
Before=network.target network-online.target
[Service]
Type=oneshot
RemainAfterExit=yes
TimeoutStartSec=infinity
ExecStart=sh -c 'until [ -e /tmp/up ]; do sleep 0.1; done'
ExecStart=ip address add {address}/16 dev eth0
ExecStart=ip route add {subnet} via {peer}
[Install]
WantedBy=network-online.target
"""
# What poweroff.target does: shutdown.target itself refuses a manual start.
OFF = """
[Unit]
DefaultDependencies=no
Requires=shutdown.target
After=shutdown.target
"""
# A try of connect doesn't take a minute. It takes longer than systemd would wait by itself, so
# watch asks for more time.
HASTE = """
[Service]
TimeoutStartSec=20
ExecStart=
ExecStart=cablectl watch --timeout 5 /etc/cablectl/%i.yaml
RestartSec=1
"""
# Sends from the first argument to the second, whether there is a route or not.
SENDER = """
import socket, sys, time
source, target, payload = sys.argv[1:]
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
    sender.bind((source, 0))
    while True:
        try:
            sender.sendto(payload.encode(), (target, 9))
        except OSError:
            pass
        time.sleep(0.05)
"""
# Prints for how many milliseconds there was no table.
FLUSH = """
nft flush ruleset
before=$(date +%s%N)
until nft list table "$@" >/dev/null 2>&1; do :; done
after=$(date +%s%N)
echo $(((after - before) / 1000000))
"""


class Scene:
    """Two gateways that boot while senders of clear text run, and all frames between them."""

    def __init__(self, lab: Lab, wire: Capture) -> None:
        self.c1, self.c2 = lab.gateways[:2]
        self._wire = wire

    def in_clear(self) -> int:
        """Return how many frames of the senders in the gateways are on the wire in clear text."""
        self._wire.summary()  # all frames until now
        return sum(PAYLOAD.encode() in frame for frame in self._wire.frames)


@contextmanager
def running(process: Process) -> Iterator[None]:
    """Kill a process at the end."""
    with process:
        try:
            yield
        finally:
            process.kill()


@contextmanager
def sending(sender: Gateway, target: Gateway, packet: bytes) -> Iterator[None]:
    """Send a packet again and again."""
    ended = threading.Event()

    def run() -> None:
        while not ended.wait(1):
            inject.send(sender, target, packet, 10)

    with ThreadPoolExecutor(1) as thread:
        sender_ends = thread.submit(run)
        try:
            yield
        finally:
            ended.set()
        sender_ends.result()


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    """Debian 12 and 13, booted with the unit enabled, before their addresses are up."""
    with Lab() as lab, ExitStack() as stack:
        for (name, address), release in zip(ADDRESS.items(), ("4.10", "5.2"), strict=True):
            gateway = lab.gateway(name, f"{address}/16", release=release)
            prepare(gateway)
            stack.enter_context(gateway.holds(HOST[name]))
        outsider = lab.gateway("outsider", "172.18.0.66/16")
        c1, c2 = lab.gateways[:2]
        c1.write(PSK_FILE, PSK)  # c2 has no key yet, so connect fails
        for gateway in (c1, c2):
            monitor = gateway.popen("sh", "-c", "exec stdbuf -oL nft monitor >/tmp/monitor")
            stack.enter_context(running(monitor))
        wire = stack.enter_context(lab.capture())
        clear = inject.echo(IPv4Address(HOST["c2"]), IPv4Address(HOST["c1"]))
        stack.enter_context(sending(outsider, c1, clear))
        for gateway in (c1, c2):
            ends = (HOST[gateway.name], HOST[PEER[gateway.name]])
            stack.enter_context(running(gateway.popen("python3", "-c", SENDER, *ends, PAYLOAD)))
        for gateway in (c1, c2):
            stack.enter_context(booted(gateway))
        yield Scene(lab, wire)


@pytest.fixture(params=["c1", "c2"])
def gateway(scene: Scene, request: pytest.FixtureRequest) -> Gateway:
    """Each of the two gateways."""
    return scene.c1 if request.param == "c1" else scene.c2


def prepare(gateway: Gateway) -> None:
    """Install and enable the units; the address comes up as systemd's units say."""
    configure(gateway)
    peer = PEER[gateway.name]
    unit = NETWORK_UNIT.format(
        address=ADDRESS[gateway.name], peer=ADDRESS[peer], subnet=f"{HOST[peer]}/32"
    )
    gateway.write("/etc/systemd/system/lab-network.service", unit, 0o644)
    gateway.write("/etc/systemd/system/lab-off.target", OFF, 0o644)
    gateway.write(f"/etc/systemd/system/{CABLE}.d/haste.conf", HASTE, 0o644)
    gateway.write(FILE, TEXT)
    systemctl(gateway, "enable", "lab-network.service", CABLE)
    gateway.ip("address flush dev eth0")


def gaps(gateway: Gateway) -> int:
    """Return after how many transactions no guard was loaded, since the first was loaded."""
    tables, without, guarded = set[str](), 0, False
    for line in gateway.read("/tmp/monitor").splitlines():
        if change := re.match(r"(add|delete) table (inet \S+)$", line):
            kind, name = change.groups()
            (tables.add if kind == "add" else tables.discard)(name)
        elif line.startswith("# new generation"):
            without += guarded and not tables
            guarded = bool(tables)
    return without


def is_active(gateway: Gateway, unit: str = CABLE) -> bool:
    return unit_property(gateway, "ActiveState", unit) == "active"


def loaded(gateway: Gateway) -> dict[str, Installed]:
    """Return the guards' tables that are loaded."""
    listing = gateway.run("nft", "-j", "list", "ruleset").stdout
    tables = nftables.by_table(json.loads(listing))
    guards = {name: table for name, table in tables.items() if name.startswith("inet cablectl_")}
    return {name: nftables.parse(table) for name, table in guards.items()}


def dropped(gateway: Gateway, table: str) -> tuple[int, int]:
    """Return how many packets a table has dropped, in and out."""
    return guard.dropped(loaded(gateway).get(table))


def carries(gateway: Gateway) -> bool:
    """Whether a host of the gateway's subnet reaches a host of the peer's."""
    ends = (HOST[gateway.name], HOST[PEER[gateway.name]])
    ping = ("ping", "-c", "1", "-W", "2", "-I", *ends)
    return gateway.run(*ping, check=False).returncode == 0


def test_enabling_the_cable_enables_its_guard(scene: Scene) -> None:
    for gateway in (scene.c1, scene.c2):
        assert systemctl(gateway, "is-enabled", CABLE, GUARD).stdout.split() == ["enabled"] * 2


def test_from_boot_until_the_cable_is_up_nothing_passes_in_clear_text(
    scene: Scene, record_property: Record
) -> None:
    c1, c2 = scene.c1, scene.c2
    for gateway in (c1, c2):
        await_condition(gateway, partial(is_active, gateway, GUARD), "the guard")
        network = partial(unit_property, gateway, "ActiveState", "lab-network")
        await_condition(gateway, lambda: network() == "activating", "the network")  # noqa: B023
        began = unit_property(gateway, "InactiveExitTimestampMonotonic", "lab-network")
        assert 0 < int(unit_property(gateway, "ActiveEnterTimestampMonotonic", GUARD)) < int(began)
        assert list(loaded(gateway)) == [ANY_END]
    seen = echo_requests(c1)
    before = dropped(c1, ANY_END)[0]
    await_condition(c1, lambda: dropped(c1, ANY_END)[0] > before + 5, "an outsider's packets")
    for gateway in (c1, c2):
        gateway.write("/tmp/up", "")
        await_condition(gateway, partial(is_active, gateway, "lab-network"), "the address")
        await_condition(gateway, lambda: ANY_END not in loaded(gateway), "the exact guard")  # noqa: B023
        assert list(loaded(gateway)) == [EXACT[gateway.name]]
    # c2 has no key, so its unit tries again, and the watch of c1 waits for c2.
    await_condition(c2, lambda: int(unit_property(c2, "NRestarts", CABLE)) > 1, "two tries")
    await_condition(c1, partial(is_active, c1), "the end of the first connect")
    assert echo_requests(c1) == seen
    c2.write(PSK_FILE, PSK)
    for gateway in (c1, c2):
        await_condition(gateway, partial(is_active, gateway), "the cable")
        await_condition(gateway, partial(carries, gateway), "traffic")
    dropped_in, dropped_out = dropped(c1, EXACT["c1"])
    assert dropped_in > 0
    assert dropped_out > 0
    assert scene.in_clear() == 0
    assert (gaps(c1), gaps(c2)) == (0, 0)
    record_property("clear packets dropped at boot, out", dropped_out)
    record_property("clear packets dropped at boot, in", dropped_in)
    record_property("clear packets on the wire", scene.in_clear())


def test_a_flushed_guard_comes_back_at_once(scene: Scene, record_property: Record) -> None:
    before = gaps(scene.c1)
    done = scene.c1.run("sh", "-c", FLUSH, "sh", *EXACT["c1"].split())
    record_property("milliseconds until a flushed guard is loaded", done.stdout.strip())
    assert gaps(scene.c1) == before + 1
    assert is_active(scene.c1, GUARD)


@pytest.mark.parametrize("how", ["pluto restarted", "pluto killed", "unit restarted"])
def test_a_restart_leaves_the_guard_loaded(scene: Scene, gateway: Gateway, how: str) -> None:
    before, invocation = gaps(gateway), unit_property(gateway, "InvocationID", CABLE)
    match how:
        case "pluto restarted":
            assert systemctl(gateway, "restart", "ipsec").returncode == 0
        case "pluto killed":
            gateway.kill_pluto()
        case "unit restarted":
            assert systemctl(gateway, "restart", CABLE).returncode == 0
    await_condition(
        gateway,
        lambda: unit_property(gateway, "InvocationID", CABLE) not in ("", invocation),
        "a restart",
    )
    await_condition(gateway, partial(is_active, gateway), "the cable")
    await_condition(gateway, partial(carries, gateway), "traffic")
    assert gaps(gateway) == before
    assert is_active(gateway, GUARD)
    assert scene.in_clear() == 0


def test_a_stopped_pluto_leaves_the_guard(scene: Scene, gateway: Gateway) -> None:
    before = gaps(gateway)
    assert systemctl(gateway, "stop", "ipsec").returncode == 0
    assert not is_active(gateway)
    assert list(loaded(gateway)) == [EXACT[gateway.name]]
    assert systemctl(gateway, "start", "ipsec").returncode == 0
    await_condition(gateway, partial(is_active, gateway), "the cable")
    assert gaps(gateway) == before
    assert scene.in_clear() == 0


def test_a_killed_watcher_starts_again(scene: Scene) -> None:
    c1, before = scene.c1, gaps(scene.c1)
    c1.run("kill", "-KILL", unit_property(c1, "MainPID", GUARD))
    await_condition(c1, lambda: unit_property(c1, "NRestarts", GUARD) == "1", "a restart")
    await_condition(c1, partial(is_active, c1, GUARD), "the guard")
    assert gaps(c1) == before


def test_a_file_with_an_error_leaves_the_guard(scene: Scene) -> None:
    c1, before = scene.c1, gaps(scene.c1)
    c1.write(FILE, "version: 1\n")
    assert systemctl(c1, "restart", GUARD).returncode == 1
    assert unit_property(c1, "ExecMainStatus", GUARD) == "2"
    assert list(loaded(c1)) == [EXACT["c1"]]
    c1.write(FILE, TEXT)
    assert systemctl(c1, "restart", GUARD).returncode == 0
    assert gaps(c1) == before


def test_who_stops_the_cable_removes_its_guard(scene: Scene, gateway: Gateway) -> None:
    for _ in range(2):  # a start right after a stop starts the watcher again
        assert systemctl(gateway, "stop", CABLE).returncode == 0
        assert loaded(gateway) == {}
        assert systemctl(gateway, "start", CABLE).returncode == 0
        assert is_active(gateway, GUARD)
        assert list(loaded(gateway)) == [EXACT[gateway.name]]
    assert systemctl(gateway, "stop", CABLE).returncode == 0
    await_condition(gateway, lambda: not is_active(gateway, GUARD), "the watcher's end")
    assert unit_property(gateway, "Result", GUARD) == "success"
    assert ".guard" not in gateway.snapshot()["files"]
    assert systemctl(gateway, "start", CABLE).returncode == 0


def test_disabling_the_cable_disables_its_guard(gateway: Gateway) -> None:
    assert systemctl(gateway, "disable", CABLE).returncode == 0
    assert systemctl(gateway, "is-enabled", CABLE, GUARD).stdout.split() == ["disabled"] * 2


def test_a_shutdown_leaves_the_guard(scene: Scene) -> None:
    in_clear = scene.in_clear()  # from the time in which somebody had stopped the units
    for gateway in (scene.c1, scene.c2):
        assert is_active(gateway)
        before = gaps(gateway)
        systemctl(gateway, "--job-mode=replace-irreversibly", "start", "lab-off.target")
        await_condition(
            gateway,
            lambda: not (is_active(gateway) or is_active(gateway, GUARD)),  # noqa: B023
            "the units' end",
        )
        assert list(loaded(gateway)) == [EXACT[gateway.name]]
        assert not gateway.snapshot()["connections"]
        assert gaps(gateway) == before
    assert scene.in_clear() == in_clear
