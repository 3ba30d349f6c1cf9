"""firewalld and ufw as Debian has them: doctor, its commands, and what the traffic really does."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import pytest

from .cable import FILE, bring_up, prepare, run, tear_down
from .conftest import two_gateways
from .doctor import Finding, Record, doctor
from .gateways import Gateway, Lab
from .rooms import PROGRAM, Room, until
from .wire import Capture

pytestmark = pytest.mark.lab

BEHIND = {"c1": "10.44.0", "c2": "10.45.0"}
MODES = ("transport", "tunnel")
JUDGED: list[str] = []


def start_firewalld(gateway: Gateway) -> None:
    """Start firewalld with its own message bus; its default zone admits only ssh."""
    gateway.run("sh", "-c", "mkdir -p /run/dbus; dbus-daemon --system --fork")
    gateway.run("sh", "-c", "firewalld --nofork --nopid >/run/firewalld.log 2>&1 &")
    until(lambda: gateway.run("firewall-cmd", "--state", check=False).returncode == 0, "firewalld")


def start_ufw(gateway: Gateway) -> None:
    """Enable ufw for IPv4, which denies what comes in; the lab lacks ip6tables' hl and rt."""
    gateway.run("sed", "-i", "s/^IPV6=yes/IPV6=no/", "/etc/default/ufw")
    gateway.run("ufw", "--force", "enable")


MANAGERS: dict[str, Callable[[Gateway], None]] = {
    "firewalld": start_firewalld,
    "ufw": start_ufw,
}


@contextmanager
def with_hosts(mode: str) -> Iterator[tuple[Lab, dict[str, Room]]]:
    """Two gateways with file and key, each with a host behind it; both forward."""
    with two_gateways("4.10", "4.10") as lab, ExitStack() as rooms:
        hosts = {}
        for gateway in lab.gateways:
            gateway.start_pluto()
            prepare(gateway)
            if mode == "tunnel":
                text = gateway.read(FILE).replace("mode: transport", "mode: tunnel")
                gateway.write(FILE, text.replace("overlay: vxlan", "overlay: none"))
            host = rooms.enter_context(closing(Room(f"host of {gateway.name}")))
            net = BEHIND[gateway.name]
            gateway.ip(
                f"link add inside type veth peer name eth0 netns {host.pid}",
                f"address add {net}.1/16 dev inside",
                "link set inside up",
            )
            host.ip(
                "link set lo up",
                "link set eth0 up",
                f"address add {net}.2/16 dev eth0",
                f"route add default via {net}.1",
            )
            gateway.run("sysctl", "--quiet", "net.ipv4.ip_forward=1")
            hosts[gateway.name] = host
        yield lab, hosts


def problems(gateway: Gateway, check: str = "firewall") -> list[Finding]:
    """Return doctor's findings of a check that aren't ok."""
    return [
        finding
        for finding in doctor(gateway)[1]
        if finding["check"] == check and finding["state"] != "ok"
    ]


def follow(gateway: Gateway, findings: list[Finding]) -> None:
    """Run exactly the commands that doctor gives."""
    for finding in findings:
        gateway.run("sh", "-c", f'sudo() {{ "$@"; }}; {finding["fix"]}')


def capture(gateway: Gateway, name: str) -> None:
    """Keep what the filter's programs print, if LAB_RESULTS names a directory."""
    if os.environ.get("LAB_RESULTS"):
        for suffix, command in (
            ("json", "nft -j list ruleset"),
            ("txt", "nft -a list ruleset"),
            ("save", "iptables-save"),
        ):
            text = gateway.run("sh", "-c", command).stdout
            Path(os.environ["LAB_RESULTS"], f"{name}.{suffix}").write_text(text)


def reaches(host: Room, to: str) -> bool:
    """Tell whether TCP reaches a host behind the other gateway: a closed port answers, too."""
    program = (
        "import socket, sys\n"
        "s = socket.socket(); s.settimeout(3)\n"
        "try: s.connect((sys.argv[1], 9))\n"
        "except ConnectionRefusedError: pass\n"
    )
    return host.run("python3", "-c", program, to, check=False).returncode == 0


def try_to_connect(*gateways: Gateway) -> None:
    """Run connect on all gateways at once.

    It may succeed: at the end of its time, the end that waits asks the peer for the reason of a
    refusal, and the filter then takes the peer's packets for answers.
    """
    argv = (PROGRAM, "connect", FILE, "--timeout", "8")
    running = [gateway.popen(*argv) for gateway in gateways]
    for process in running:
        process.communicate(timeout=150)


def both_reach(hosts: dict[str, Room]) -> list[bool]:
    return [reaches(hosts["c1"], "10.45.0.2"), reaches(hosts["c2"], "10.44.0.2")]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("manager", MANAGERS)
def test_blocked_and_opened(manager: str, mode: str) -> None:
    with with_hosts(mode) as (lab, hosts):
        c1, c2 = lab.gateways
        MANAGERS[manager](c1)
        blocked = problems(c1)
        capture(c1, f"{manager}-blocked-{mode}")
        assert {finding["state"] for finding in blocked} == {"fail"}, blocked
        try_to_connect(c1, c2)
        assert both_reach(hosts) == [False, False]
        tear_down(c1, c2)
        JUDGED.append(f"{manager}, {mode}: blocked")
        follow(c1, blocked)
        capture(c1, f"{manager}-open-{mode}")
        assert problems(c1) == []
        bring_up(c1, c2)
        assert both_reach(hosts) == [True, True]
        code, findings = doctor(c1)
        assert code == 0, [finding for finding in findings if finding["state"] != "ok"]
        JUDGED.append(f"{manager}, {mode}: open")
        tear_down(c1, c2)


NAT_FOR_ALL = {
    "nft": "nft 'table ip nat { chain post { type nat hook postrouting priority srcnat;"
    " masquerade; }; }'",
    "iptables": "iptables -t nat -A POSTROUTING ! -d 224.0.0.0/4 -j MASQUERADE",
    "firewalld": "firewall-cmd --zone=public --add-masquerade --permanent && firewall-cmd --reload",
}
NAMED: list[str] = []


def source_at(hosts: dict[str, Room], to: str) -> str:
    """Return the address from which c1's host reaches c2's host; empty if it doesn't."""
    with hosts["c2"].popen("python3", "-c", f"{LISTENER}print(s.accept()[1][0])") as listener:
        assert listener.stdout
        listener.stdout.readline()
        reaches(hosts["c1"], to)
        return listener.communicate(timeout=30)[0].strip()


LISTENER = "import socket; s = socket.create_server(('', 9)); s.settimeout(5); print(flush=True);"


def in_clear_text(wire: Capture) -> int:
    """Return how many frames have TCP outside of the cable."""
    return sum(frame[12:14] == b"\x08\x00" and frame[23] == TCP for frame in wire.frames)


TCP = 6  # IANA, Protocol Numbers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("program", NAT_FOR_ALL)
def test_nat_that_takes_all_packets(program: str, mode: str) -> None:
    """In tunnel mode, packets leave in clear text; over an overlay, their source is the VTEP."""
    with with_hosts(mode) as (lab, hosts):
        c1, c2 = lab.gateways
        if program == "firewalld":
            start_firewalld(c1)
            follow(c1, problems(c1))
        c1.run("sh", "-c", NAT_FOR_ALL[program])
        rewriting = problems(c1, "nat")
        breaks = mode == "tunnel"
        assert ("fail" in {finding["state"] for finding in rewriting}) == breaks, rewriting
        for command in ("plan", "connect"):
            warnings = run(c1, command, FILE, *NO_WAIT[command]).stderr
            for finding in rewriting:
                assert f"warning: {finding['evidence']}; try: {finding['fix']}" in warnings
        bring_up(c1, c2)
        with lab.capture() as wire:
            assert source_at(hosts, "10.45.0.2") == ("" if breaks else "241.18.0.8")
        assert (in_clear_text(wire) > 0) == breaks
        NAMED.append(f"{program}, {mode}")
        follow(c1, rewriting)
        assert problems(c1, "nat") == []
        assert "rewrite" not in run(c1, "plan", FILE).stderr
        with lab.capture() as wire:
            assert source_at(hosts, "10.45.0.2") == "10.44.0.2"
        assert in_clear_text(wire) == 0
        assert both_reach(hosts) == [True, True]
        tear_down(c1, c2)


NO_WAIT = {"plan": (), "connect": ("--no-wait",)}


def test_nat_that_leaves_the_cable_alone() -> None:
    """The overlay's packets leave by its device, and the gateway's own keep their address."""
    with with_hosts("transport") as (lab, hosts):
        c1, c2 = lab.gateways
        c1.run("sh", "-c", NAT_FOR_ALL["nft"].replace(" masquerade", ' oifname "eth0" masquerade'))
        assert problems(c1, "nat") == []
        assert "rewrite" not in run(c1, "plan", FILE).stderr
        bring_up(c1, c2)
        assert source_at(hosts, "10.45.0.2") == "10.44.0.2"
        tear_down(c1, c2)


def test_the_score(record_property: Record) -> None:
    wanted = 2 * len(MODES) * len(MANAGERS)
    record_property("firewalls judged as the traffic shows", f"{len(JUDGED)} of {wanted}")
    assert len(JUDGED) == wanted
    wanted = len(MODES) * len(NAT_FOR_ALL)
    record_property("NAT rules named, and undone by doctor's commands", f"{len(NAMED)} of {wanted}")
    assert len(NAMED) == wanted
