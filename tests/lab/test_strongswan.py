"""strongSwan as the peer, configured only as docs/strongswan.md shows."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cablectl.config import native

from . import certs
from .cable import EXAMPLES, FILE, PSK, PSK_FILE, child_sas, connections, ping, tear_down
from .gateways import Gateway, Lab
from .releases import added
from .rooms import CHECKOUT, PROGRAM, until
from .traffic import PATTERN, assert_traffic, changes, cluster_hosts

pytestmark = pytest.mark.lab

EXAMPLE = EXAMPLES / "strongswan"
CONF = "/etc/swanctl/conf.d/cluster1.conf"
CHILDREN = ("vxlan-in", "vxlan-out")
SERVER = "    preferred_server: true   # strongSwan waits, cablectl initiates\n"
CHARON_LOG = "/run/charon.log"
LOGGED = f"charon-systemd {{\nfilelog {{\nlab {{\npath = {CHARON_LOG}\n}}\n}}\n}}\n"
PAIRS = [("4.10", "cablectl"), ("5.2", "strongSwan")]
PAIRS += [(name, initiator) for name in added() for initiator in ("cablectl", "strongSwan")]


@contextmanager
def pair(release: str) -> Iterator[tuple[Lab, Gateway, Gateway]]:
    """A gateway with pluto, and a gateway with charon, which has loaded the connection."""
    with Lab() as lab:
        c1 = lab.gateway("c1", "172.18.0.8/16", "2001:db8::8/64", release)
        c1.start_pluto()
        c2 = lab.gateway("c2", "172.18.0.7/16", "2001:db8::7/64", "strongSwan")
        start_charon(c2)
        for gateway in (c1, c2):
            gateway.write(PSK_FILE, f"{PSK}\n")
        c2.write(CONF, (EXAMPLE / "swanctl.conf").read_text())
        c2.run(*key_command())
        c2.run("swanctl", "--load-all")
        yield lab, c1, c2


def start_charon(gateway: Gateway) -> None:
    """Start strongSwan's daemon, as its systemd unit does, and wait until it answers."""
    gateway.write("/etc/strongswan.d/lab.conf", LOGGED)
    gateway.run("sh", "-c", "charon-systemd >/dev/null 2>&1 &")
    until(lambda: gateway.run("swanctl", "--stats", check=False).returncode == 0, "charon")


def key_command() -> list[str]:
    """Return the command of docs/strongswan.md that writes the key; root needs no sudo."""
    lines = (CHECKOUT / "docs" / "strongswan.md").read_text().splitlines()
    (line,) = (line for line in lines if line.endswith("cluster1.secret'"))
    sudo, *argv = shlex.split(line)
    assert sudo == "sudo"
    return argv


def connect(c1: Gateway, c2: Gateway, by_hand: bool) -> None:
    """Connect on cablectl's end; with `by_hand`, strongSwan initiates while cablectl waits."""
    with c1.popen(PROGRAM, "connect", FILE) as process:
        if by_hand:
            names = connections(c1)
            until(
                lambda: (
                    process.poll() is not None  # connect failed; its error is asserted below
                    or all(f'"{name}"' in c1.whack("--status") for name in names)
                ),
                "the connections",
                timeout=60,
            )
            for child in CHILDREN:
                c2.run("swanctl", "--initiate", "--child", child, check=False)
        out, err = process.communicate(timeout=150)
    assert process.returncode == 0, err + c2.read(CHARON_LOG)
    assert " is up, encrypted by ESP in transport mode" in out


def rekey_from_strongswan(c2: Gateway) -> None:
    """Rekey all three SAs from strongSwan, and wait for the new SAs; old SAs stay for 5 s."""
    old = spis(c2)
    assert len(old) == 5
    for child in CHILDREN:
        c2.run("swanctl", "--rekey", "--child", child)
    c2.run("swanctl", "--rekey", "--ike", "cluster1")
    until(lambda: len(spis(c2) - old) == 5, "new SAs")


def spis(c2: Gateway) -> set[str]:
    """Return the SPIs of the IKE SA, and of the Child SAs in both directions."""
    sas = c2.run("swanctl", "--list-sas").stdout
    return set(re.findall(r"[0-9a-f]{16}_i|(?:in|out) +[0-9a-f]{8},", sas))


@pytest.mark.parametrize(("release", "initiator"), PAIRS)
def test_from_connect_to_teardown(release: str, initiator: str) -> None:
    text = (EXAMPLE / "cable.yaml").read_text()
    assert SERVER in text
    network = native.parse(text, FILE)
    with pair(release) as (lab, c1, c2):
        c1.write(FILE, text if initiator == "cablectl" else text.replace(SERVER, ""))
        cables = (network.cables(endpoint)[0] for endpoint in network.endpoints)
        sides = tuple(zip((c1, c2), cables, strict=True))
        before = c1.snapshot()
        with lab.capture() as wire, cluster_hosts(sides):
            try:
                c2.run("sh", str(EXAMPLE / "overlay.sh"))
                connect(c1, c2, by_hand=initiator == "strongSwan")
                assert child_sas(c1) == connections(c1)
                assert c2.run("swanctl", "--list-sas").stdout.count("TRANSPORT-in-UDP") == 2
                for side in sides:
                    assert_traffic(*side)
                rekey_from_strongswan(c2)
                assert ping(c1).returncode == ping(c2).returncode == 0
            finally:
                tear_down(c1)
            assert ping(c2, "-c", "1", "-W", "1").returncode != 0  # strongSwan sends no clear text
        assert changes(before, c1.snapshot()) == ""
        summary = wire.summary()
    assert summary["overlay"].frames == summary["esp"].frames == 0
    assert summary["esp-in-udp"].largest == 1500
    assert not any(bytes.fromhex(PATTERN) * 4 in frame for frame in wire.frames)


def install_commands() -> list[list[str]]:
    """Return the commands of docs/strongswan.md that give strongSwan its files; without sudo."""
    lines = (CHECKOUT / "docs" / "strongswan.md").read_text().splitlines()
    return [shlex.split(line)[1:] for line in lines if line.startswith("    sudo install ")]


def test_certificates() -> None:
    with Lab() as lab:
        c1 = lab.gateway("c1", "172.18.0.8/16", "2001:db8::8/64", "4.10")
        c1.start_pluto()
        c2 = lab.gateway("c2", "172.18.0.7/16", "2001:db8::7/64", "strongSwan")
        start_charon(c2)
        above = certs.new_authority()
        for gateway, name in ((c1, "cluster1-worker"), (c2, "cluster2-worker")):
            certs.hand_out(gateway, certs.issue(above, name), trusted=above)
        c1.write(FILE, (EXAMPLE / "certificates.yaml").read_text())
        c2.write(CONF, (EXAMPLE / "certificates.conf").read_text())
        assert len(install_commands()) == 3
        for command in install_commands():
            c2.run(*command)
        c2.run("swanctl", "--load-all")
        before = c1.snapshot(), certs.nss(c1)
        with lab.capture() as wire:
            try:
                c2.run("sh", str(EXAMPLE / "overlay.sh"))
                connect(c1, c2, by_hand=False)
                assert ping(c1).returncode == ping(c2).returncode == 0
            finally:
                tear_down(c1)
        assert (changes(before[0], c1.snapshot()), certs.nss(c1)) == ("", before[1])
        assert wire.summary()["overlay"].frames == 0
