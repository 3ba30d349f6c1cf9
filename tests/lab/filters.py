"""Packet filters of other programs on a gateway, and hosts behind the gateways."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager

from .cable import FILE, prepare
from .doctor import Finding, doctor
from .gateways import Gateway, Lab, two_gateways
from .rooms import Room, until

MODES = ("transport", "tunnel")
BEHIND = {"c1": "10.44.0", "c2": "10.45.0"}


def start_firewalld(gateway: Gateway) -> None:
    """Start firewalld with its own message bus; its default zone admits only ssh."""
    gateway.run("sh", "-c", "mkdir -p /run/dbus; dbus-daemon --system --fork")
    gateway.run("sh", "-c", "firewalld --nofork --nopid >/run/firewalld.log 2>&1 &")
    until(lambda: gateway.run("firewall-cmd", "--state", check=False).returncode == 0, "firewalld")


def start_ufw(gateway: Gateway) -> None:
    """Enable ufw for IPv4, which denies what comes in; the lab lacks ip6tables' hl and rt."""
    gateway.run("sed", "-i", "s/^IPV6=yes/IPV6=no/", "/etc/default/ufw")
    gateway.run("ufw", "--force", "enable")


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


def reaches(host: Room, to: str, patience: int = 3) -> bool:
    """Tell whether TCP reaches a host behind the other gateway: a closed port answers, too."""
    program = (
        "import socket, sys\n"
        "s = socket.socket(); s.settimeout(int(sys.argv[2]))\n"
        "try: s.connect((sys.argv[1], 9))\n"
        "except ConnectionRefusedError: pass\n"
    )
    return host.run("python3", "-c", program, to, str(patience), check=False).returncode == 0


def both_reach(hosts: dict[str, Room], patience: int = 3) -> list[bool]:
    """Tell for each gateway's host whether it reaches the other one within `patience` seconds."""
    ends = (("c1", "10.45.0.2"), ("c2", "10.44.0.2"))
    return [reaches(hosts[name], to, patience) for name, to in ends]
