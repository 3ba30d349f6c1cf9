"""firewalld and ufw as Debian has them: doctor, its commands, and what the traffic really does."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest

from .cable import FILE, bring_up, tear_down
from .doctor import Record, doctor
from .extent import chosen
from .filters import MODES, both_reach, follow, problems, start_firewalld, start_ufw, with_hosts
from .gateways import Gateway
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

NFT = """
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state vmap { established : accept, related : accept, invalid : drop }
        iif lo accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
    chain forward {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
    }
}
"""
IPTABLES = """
*filter
:INPUT DROP
:FORWARD DROP
:OUTPUT ACCEPT
-A INPUT -i lo -j ACCEPT
-A INPUT -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
-A INPUT -p icmp -j ACCEPT
-A FORWARD -m conntrack --ctstate ESTABLISHED,RELATED -j ACCEPT
COMMIT
"""


def load_nft(gateway: Gateway) -> None:
    gateway.run("nft", "-f", "-", input=NFT)


def load_iptables(gateway: Gateway) -> None:
    gateway.run("iptables-restore", input=IPTABLES)


MANAGERS: dict[str, Callable[[Gateway], None]] = {
    "firewalld": start_firewalld,
    "ufw": start_ufw,
    "nft": load_nft,
    "iptables": load_iptables,
}
EVERY_HOST = [*product(("firewalld", "ufw"), MODES), *product(("nft", "iptables"), ["transport"])]
HOSTS = chosen(EVERY_HOST, step=2)
JUDGED: list[str] = []


def try_to_connect(*gateways: Gateway) -> None:
    """Run connect on all gateways at once.

    It may succeed: at the end of its time, the end that waits asks the peer for the reason of a
    refusal, and the filter then takes the peer's packets for answers.
    """
    argv = (PROGRAM, "connect", FILE, "--timeout", "5")
    running = [gateway.popen(*argv) for gateway in gateways]
    for process in running:
        process.communicate(timeout=150)


@pytest.mark.parametrize(("manager", "mode"), HOSTS)
def test_blocked_and_opened(manager: str, mode: str) -> None:
    with with_hosts(mode) as (lab, hosts):
        c1, c2 = lab.gateways
        MANAGERS[manager](c1)
        blocked = problems(c1)
        assert {finding["state"] for finding in blocked} == {"fail"}, blocked
        try_to_connect(c1, c2)
        assert both_reach(hosts) == [False, False]
        tear_down(c1, c2)
        JUDGED.append(f"{manager}, {mode}: blocked")
        follow(c1, blocked)
        assert problems(c1) == []
        bring_up(c1, c2)
        assert both_reach(hosts, patience=30) == [True, True]
        code, findings = doctor(c1)
        assert code == 0, [finding for finding in findings if finding["state"] != "ok"]
        JUDGED.append(f"{manager}, {mode}: open")
        tear_down(c1, c2)


def test_the_score(record_property: Record) -> None:
    expected = 2 * len(HOSTS)
    record_property("firewalls judged as the traffic shows", f"{len(JUDGED)} of {expected}")
    assert len(JUDGED) == expected
