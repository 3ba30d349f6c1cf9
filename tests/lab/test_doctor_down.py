"""Hosts on which no cable comes up: `doctor` names the cause of each."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from cablectl.libreswan import dialects, secrets_file, whack
from tests.support.documents import document
from tests.support.examples import load

from .cable import FILE, PSK, bring_up, connections, prepare, run, tear_down
from .doctor import Breaker, Cause, Record, assert_named, by_shell, doctor, nothing_else, score
from .gateways import Gateway, Lab
from .rooms import PROGRAM, LabError, until
from .traffic import changes

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def down(lab: Lab) -> Lab:
    """Two gateways with file and key but no cable; each test leaves them without a cable."""
    for gateway in lab.gateways:
        prepare(gateway)
    return lab


ROUTE = "default via 172.18.255.254"
# A link that was down has lost its routes and its IPv6 address.
LINK_UP = f"ip link set eth0 up; ip route add {ROUTE}; ip address add 2001:db8::7/64 dev eth0 nodad"
BIND = "import socket, time; s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind"


@contextmanager
def port_taken(lab: Lab) -> Iterator[None]:
    """Let another program hold the overlay's port."""
    c1 = lab.gateways[0]
    program = f"{BIND}(('', 4789)); print(flush=True); time.sleep(99)"
    with c1.popen(sys.executable, "-c", program) as process:
        assert process.stdout
        process.stdout.readline()
        try:
            yield
        finally:
            process.kill()


@contextmanager
def pluto_killed(lab: Lab) -> Iterator[None]:
    lab.gateways[0].kill_pluto()
    try:
        yield
    finally:
        lab.gateways[0].start_pluto()


@contextmanager
def peers_pluto_stopped(lab: Lab) -> Iterator[None]:
    lab.gateways[1].stop_pluto()
    try:
        yield
    finally:
        lab.gateways[1].start_pluto()


@contextmanager
def connect_killed(lab: Lab) -> Iterator[None]:
    """Kill a connect that waits for the peer."""
    with lab.gateways[0].popen(PROGRAM, "connect", FILE) as process:
        assert process.stderr
        next(line for line in process.stderr if "] wait: " in line)
        process.kill()
    try:
        yield
    finally:
        tear_down(lab.gateways[0])


@contextmanager
def port_by_service_name(lab: Lab) -> Iterator[None]:
    prepare(lab.gateways[0], "proposal")
    try:
        yield
    finally:
        prepare(lab.gateways[0])


def refused(change: Callable[[Gateway], None]) -> Breaker:
    """Change the peer so that the two ends can't agree, and run connect on both."""

    @contextmanager
    def broken(lab: Lab) -> Iterator[None]:
        c1, c2 = lab.gateways
        change(c2)
        with c1.popen(PROGRAM, "connect", FILE, "--timeout", "8") as waiting:
            assert run(c2, "connect", FILE, "--timeout", "5").returncode == 1
            waiting.communicate(timeout=120)
            assert waiting.returncode == 1
        try:
            yield
        finally:
            prepare(c2)

    return broken


def another_key(gateway: Gateway) -> None:
    prepare(gateway, psk="another key than that of the other end")


def another_port(gateway: Gateway) -> None:
    gateway.write(FILE, gateway.read(FILE) + "vxlan: {port: 4790}\n")


OTHER = "vxlan0 type vxlan id 1000 dstport 4789 local 172.18.0.8"

# The gateway's programs then see a kernel without modules and without ESP.
NO_MODULES = (
    "mount -t tmpfs none /sys/module && mount -t tmpfs none /lib/modules"
    " && mount --bind /dev/null /proc/kallsyms"
)

WHILE_DOWN = {
    "no ESP": Cause(
        by_shell(NO_MODULES, "umount /sys/module /lib/modules /proc/kallsyms"),
        "fail",
        "kernel",
        (" has no esp4: not loaded, not built in", "CONFIG_INET_ESP", "apt install"),
    ),
    "wrong PSK": Cause(
        refused(another_key),
        "warn",
        "negotiation",
        ("authentication failed", "put the same pre-shared key on both ends"),
        (0, 1),
    ),
    "wrong selectors": Cause(
        refused(another_port),
        "warn",
        "negotiation",
        ("the peer has different traffic selectors", "overlay, overlay port"),
        (0, 1),
    ),
    "peer down": Cause(
        by_shell("ip link set eth0 down", LINK_UP, gateway=1),
        "fail",
        "peer",
        ("172.18.0.7 UDP 4500", "check that cluster2-worker is up"),
    ),
    "peer's pluto dead": Cause(
        peers_pluto_stopped,
        "fail",
        "peer",
        ("172.18.0.7 UDP 4500 is closed", "start pluto on cluster2-worker"),
    ),
    "pluto dead": Cause(
        pluto_killed, "fail", "pluto", ("pluto isn't running", "systemctl start ipsec")
    ),
    "no default route": Cause(
        by_shell(
            "ip route delete default; ip route delete 172.18.0.0/16",
            f"ip route add 172.18.0.0/16 dev eth0 src 172.18.0.8; ip route add {ROUTE}",
        ),
        "fail",
        "route",
        ("no route from 172.18.0.8 to 172.18.0.7: RTNETLINK answers: Network is unreachable",),
    ),
    "VXLAN port taken": Cause(
        port_taken,
        "fail",
        "ports",
        ("UDP 4789, the overlay's port, is held by python", "PID", "stop that process"),
    ),
    "clear-text overlay of someone else": Cause(
        by_shell(f"ip link add {OTHER}", "ip link delete vxlan0"),
        "fail",
        "clear text",
        ("vxlan0 is a vxlan device with this cable's VNI 1000, port 4789", "choose another VNI"),
    ),
    "service name missing": Cause(
        port_by_service_name, "fail", "service", ("doesn't name UDP 4789 vxlan", "write port: 4789")
    ),
    "stale lock": Cause(
        connect_killed,
        "warn",
        "runs",
        (
            "an earlier connect was cut off at step",
            "its lock is stale (PID",
            "run connect, which completes it",
        ),
    ),
}


@pytest.mark.parametrize("cause", WHILE_DOWN)
def test_a_host_that_was_broken_before(down: Lab, cause: str, record_property: Record) -> None:
    assert_named(down, cause, WHILE_DOWN[cause], record_property)


def test_a_host_without_a_cable(down: Lab) -> None:
    """Both hosts are ready; doctor warns that the peer has no connection, and nothing fails."""
    before = [gateway.snapshot() for gateway in down.gateways]
    code, findings = doctor(down.gateways[0])
    states = {(finding["check"], finding["state"]) for finding in findings}
    assert code == 0
    assert {("peer", "warn"), ("cable", "warn"), ("connect", "ok")} <= states
    done = run(down.gateways[0], "doctor")
    assert done.returncode == 0, done.stdout
    for gateway, snapshot in zip(down.gateways, before, strict=True):
        assert changes(snapshot, gateway.snapshot()) == ""


@pytest.mark.parametrize("shape", ["transport geneve v6", "tunnel v4 server"])
def test_nothing_fails_where_nothing_is_wrong(down: Lab, shape: str) -> None:
    for gateway in down.gateways:
        gateway.write(FILE, document(shape))
    try:
        bring_up(*down.gateways)
        for gateway in down.gateways:
            code, findings = doctor(gateway)
            assert [finding for finding in findings if finding["state"] == "fail"] == []
            assert code == 0
            assert run(gateway, "status", FILE).returncode == 0  # the cable is still up
    finally:
        tear_down(*down.gateways)
        for gateway in down.gateways:
            prepare(gateway)


def test_a_5_x_peer_in_tunnel_mode(record_property: Record) -> None:
    """The peer's connections are loaded as on 4.x; without --transport, 5.x uses tunnel mode."""
    with Lab() as lab:
        c1 = lab.gateway("c1", "172.18.0.8/16", release="5.2")
        c2 = lab.gateway("c2", "172.18.0.7/16", release="5.2")
        cable = load("quickstart", "cluster2")
        for gateway in lab.gateways:
            gateway.start_pluto()
            prepare(gateway)
        c2.write(secrets_file.path(cable), secrets_file.content(cable, PSK.encode()).decode())
        c2.whack("--listen")
        for connection in cable.connections:
            argv = whack.add(cable, connection, dialects.parse_version("5.2"))
            c2.run(*(word for word in argv if word != "--transport"))
        with c1.popen(PROGRAM, "connect", FILE) as waiting:
            try:
                until(lambda: connections(c1)[1] in c1.whack("--status", check=False), "c1", 60)
            except LabError as error:
                waiting.kill()
                raise LabError(f"{error}: {waiting.communicate(timeout=60)}") from None
            c2.whack("--initiate", "--name", connections(c2)[0], check=False)
            cause = Cause(
                nothing_else, "fail", "negotiation", ("one end is in transport mode, the other",)
            )
            try:
                assert_named(lab, "5.x peer in tunnel mode", cause, record_property)
            finally:
                waiting.send_signal(signal.SIGINT)
                waiting.communicate(timeout=60)


def test_the_score(record_property: Record) -> None:
    score((*WHILE_DOWN, "5.x peer in tunnel mode"), record_property)
