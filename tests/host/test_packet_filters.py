"""NAT rules as facts: read for connect and plan, with few processes."""

import json
import subprocess
from pathlib import Path

import pytest

from cablectl.facts.host_facts import Facts
from cablectl.host import packet_filters, probe
from cablectl.libreswan.dialects import LATEST
from tests.support.documents import shaped

LIST = "nft -j list ruleset"
PLACE = {"family": "ip", "table": "nat"}
POST = {**PLACE, "name": "post", "type": "nat", "hook": "postrouting", "prio": 100}
RULE = {**PLACE, "chain": "post", "handle": 2, "expr": [{"masquerade": None}]}
NAT = json.dumps({"nftables": [{"chain": POST}, {"rule": RULE}]})
TEXT = "table ip nat { # handle 1\n\tchain post { # handle 1\n\t\tmasquerade # handle 2\n\t}\n}\n"
FILTER = json.dumps({"nftables": [{"chain": {**POST, "type": "filter", "hook": "input"}}]})
LEGACY_NAT = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\nCOMMIT\n"
ADDRESS = {"ifname": "eth0", "flags": ["UP"], "mtu": 1500, "addr_info": []}
ETH0 = {**ADDRESS, "addr_info": [{"local": "172.18.0.8", "prefixlen": 16}]}
ETH1 = {**ADDRESS, "ifname": "eth1", "addr_info": [{"local": "10.44.0.1", "prefixlen": 16}]}
CABLE = shaped("tunnel v4")


class Host:
    """A host whose tools print what is given; it notes the commands."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        self.asked: list[str] = []
        self.answers: dict[str, str] = {"ip -N -d -j address": json.dumps([ETH0, ETH1])}
        self.legacy = tmp_path / "ip_tables_names"
        monkeypatch.setattr(packet_filters, "_LEGACY_TABLES", (str(self.legacy),))
        monkeypatch.setattr(probe, "run", self._run)

    def _run(self, *argv: str, **_: object) -> subprocess.CompletedProcess[str]:
        command = " ".join(argv)
        self.asked.append(command)
        return subprocess.CompletedProcess(argv, 0, self.answers.get(command, ""), "")

    def facts(self) -> Facts:
        (found,) = packet_filters.with_nat((CABLE,), (Facts(libreswan=LATEST, device="eth0"),))
        return found


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Host:
    return Host(monkeypatch, tmp_path)


@pytest.mark.parametrize("listing", ["", FILTER])
def test_without_nat_one_process_runs(host: Host, listing: str) -> None:
    host.answers[LIST] = listing
    assert host.facts() == Facts(libreswan=LATEST, device="eth0")
    assert host.asked == [LIST]


def test_the_rules_and_the_devices(host: Host) -> None:
    host.answers |= {LIST: NAT, "nft -a list ruleset": TEXT}
    facts = host.facts()
    (chain,) = facts.nat
    assert [rule.text for rule in chain.rules] == ["masquerade"]
    assert facts.devices.outside == "eth0"
    assert facts.devices.addresses == frozenset({"172.18.0.8/16"})
    assert facts.devices.subnets == {"10.44.0.0/16": "eth1", "100.44.0.0/16": ""}


def test_a_table_of_iptables_legacy_which_nft_does_not_list(host: Host) -> None:
    host.legacy.write_text("filter\nnat\n")
    host.answers |= {LIST: FILTER, "iptables-save": LEGACY_NAT}
    assert "iptables-legacy nat" in {chain.table for chain in host.facts().nat}
