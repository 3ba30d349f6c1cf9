"""NAT rules on a gateway: doctor, connect and plan name them; doctor's commands undo them."""

from __future__ import annotations

import pytest

from .cable import FILE, bring_up, run, tear_down
from .doctor import Record
from .filters import MODES, both_reach, follow, problems, reaches, start_firewalld, with_hosts
from .rooms import Room
from .wire import Capture

pytestmark = pytest.mark.lab

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
    """In tunnel mode, packets don't arrive; over an overlay, their source is the VTEP."""
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
        assert in_clear_text(wire) == 0
        NAMED.append(f"{program}, {mode}")
        follow(c1, rewriting)
        assert problems(c1, "nat") == []
        assert "rewrite" not in run(c1, "plan", FILE).stderr
        with lab.capture() as wire:
            assert source_at(hosts, "10.45.0.2") == "10.44.0.2"
        assert in_clear_text(wire) == 0
        assert both_reach(hosts, patience=30) == [True, True]
        tear_down(c1, c2)


NO_WAIT = {"plan": (), "connect": ("--no-wait",)}


def test_nat_without_a_guard() -> None:
    with with_hosts("tunnel") as (lab, hosts):
        c1, c2 = lab.gateways
        for gateway in lab.gateways:
            gateway.write(FILE, f"{gateway.read(FILE)}guard: false\n")
        c1.run("sh", "-c", NAT_FOR_ALL["nft"])
        rewriting = problems(c1, "nat")
        assert "so these packets leave in clear text: " in rewriting[-1]["evidence"]
        bring_up(c1, c2)
        with lab.capture() as wire:
            assert source_at(hosts, "10.45.0.2") == ""
        assert in_clear_text(wire) > 0
        follow(c1, rewriting)
        with lab.capture() as wire:
            assert source_at(hosts, "10.45.0.2") == "10.44.0.2"
        assert in_clear_text(wire) == 0
        tear_down(c1, c2)


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
    expected = len(MODES) * len(NAT_FOR_ALL)
    record_property("NAT rules named, and undone by their commands", f"{len(NAMED)} of {expected}")
    assert len(NAMED) == expected
