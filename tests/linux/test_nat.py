"""NAT rules: how nft and iptables print them, and which of them rewrite a cable's packets."""

from typing import Any

import pytest
from msgspec.structs import replace

from cablectl.linux.firewall import iptables, nft, remedies, rewriting
from cablectl.linux.firewall.filters import Chain, Condition, Rule
from cablectl.linux.firewall.traffic import Devices, device_of
from tests.support.captures import filters
from tests.support.documents import shaped

DEVICES = Devices("eth0", frozenset({"172.18.0.8/16", "fe80::8/64"}), {"10.44.0.0/16": "eth1"})
UNCLEAR = Condition("")


def of_nft(*expressions: Any) -> Rule:  # noqa: ANN401 - JSON
    """Return the rule of a nat chain with these expressions."""
    place = {"family": "ip", "table": "t", "chain": "c", "handle": 1}
    chain = {"family": "ip", "table": "t", "name": "c", "type": "nat", "hook": "postrouting"}
    listing = {"nftables": [{"chain": chain}, {"rule": {**place, "expr": list(expressions)}}]}
    (parsed,) = nft.parse(listing, "")
    assert (parsed.type, parsed.hook) == ("nat", "postrouting")
    return parsed.rules[0]


@pytest.mark.parametrize(
    ("expression", "verdict", "target"),
    [
        ({"masquerade": None}, "masquerade", ""),
        ({"masquerade": {"flags": "random"}}, "masquerade", ""),
        ({"snat": {"addr": "192.0.2.1"}}, "snat", "192.0.2.1"),
        ({"dnat": {"family": "ip", "addr": "192.0.2.1", "port": 22}}, "dnat", "192.0.2.1:22"),
        ({"redirect": {"port": 4501}}, "redirect", ":4501"),
        ({"redirect": None}, "redirect", ""),
        ({"xt": {"type": "target", "name": "MASQUERADE"}}, "masquerade", ""),
    ],
)
def test_a_rule_of_nft(expression: dict[str, Any], verdict: str, target: str) -> None:
    assert of_nft(expression) == Rule("rule 1", (), verdict, target)


def test_whether_a_map_has_the_packet_is_not_known() -> None:
    mapped = {"map": {"key": {"payload": {"protocol": "ip", "field": "daddr"}}, "data": "@m"}}
    assert of_nft({"dnat": {"addr": mapped}}).conditions == (UNCLEAR,)


def test_the_rules_of_iptables() -> None:
    saved = (
        "*nat\n:POSTROUTING ACCEPT [0:0]\n"
        "-A POSTROUTING -s 10.44.0.0/16 -j MASQUERADE --random-fully\n"
        "-A POSTROUTING -o eth0 -j SNAT --to-source 192.0.2.1 --persistent\n"
        "-A POSTROUTING -j NETMAP --to 192.0.2.0/24\n"
    )
    (chain,) = iptables.parse(saved, "iptables")
    masquerade, snat, netmap = chain.rules
    assert (chain.type, chain.hook) == ("nat", "postrouting")
    assert masquerade.conditions == (Condition("saddr", ("10.44.0.0/16",)),)
    assert (masquerade.verdict, masquerade.target) == ("masquerade", "")
    assert (snat.verdict, snat.target) == ("snat", "192.0.2.1")
    assert (netmap.verdict, netmap.target) == ("netmap", "192.0.2.0/24")


def found(*rules: Rule, hook: str = "postrouting", of: str = "tunnel v4") -> list[str]:
    """Return the names of the packets that the rules of a nat chain rewrite."""
    chain = Chain("table ip nat", "c", "ipv4", hook, rules=rules, type="nat")
    rewritten = rewriting.rewritings((chain,), shaped(of), DEVICES)
    return [
        f"{sample.name}{'' if each.sure else '?'}" for each in rewritten for sample in each.samples
    ]


def masquerade(*conditions: Condition) -> Rule:
    return Rule("masquerade", conditions, "masquerade")


OUT = "10.44.0.0/16 to 10.45.0.0/16"
BY_ETH0 = Condition("oif", ("eth0",))
VXLAN = "transport vxlan v4"


@pytest.mark.parametrize(
    ("rules", "of", "expected"),
    [
        ([masquerade(BY_ETH0)], "tunnel v4", [OUT, "100.44.0.0/16 to 10.45.0.0/16"]),
        ([masquerade(BY_ETH0)], VXLAN, []),
        ([masquerade(Condition("oif", ("vxlan*",)))], "tunnel v4", []),
        ([masquerade(Condition("saddr", ("10.44.0.0/16",)), UNCLEAR)], VXLAN, [f"{OUT}?"]),
        ([masquerade(UNCLEAR)], "tunnel v4", []),
        ([masquerade(Condition("ipsec_out", ("false",)), BY_ETH0)], "tunnel v4", []),
        (
            [Rule("accept", (Condition("daddr", ("10.45.0.0/16",)),), "accept"), masquerade()],
            "tunnel v4",
            ["10.45.0.0/16 to 10.44.0.0/16", "10.45.0.0/16 to 100.44.0.0/16"],
        ),
        ([Rule("snat", (BY_ETH0,), "snat", "172.18.0.8")], VXLAN, []),
        (
            [Rule("snat", (BY_ETH0,), "snat", "192.0.2.1")],
            VXLAN,
            ["UDP 4500 to 172.18.0.7", "the overlay's UDP 4789 to 172.18.0.7"],
        ),
        ([masquerade()], "tunnel v6", []),
        ([masquerade(BY_ETH0)], "tunnel vxlan v4", []),  # the guard exempts them
    ],
)
def test_the_packets_that_are_rewritten(rules: list[Rule], of: str, expected: list[str]) -> None:
    assert found(*rules, of=of) == expected


def test_without_a_guard_a_masquerade_takes_the_underlay_address() -> None:
    chain = Chain(
        "table ip nat", "c", "ipv4", "postrouting", rules=(masquerade(BY_ETH0),), type="nat"
    )
    cable = replace(shaped("tunnel gre v4"), guard=False)
    (found,) = rewriting.rewritings((chain,), cable, DEVICES)
    assert [sample.name for sample in found.samples] == ["the overlay's GRE to 244.18.0.7"]
    assert found.breaks


def test_a_masquerade_on_a_device_whose_addresses_are_not_known() -> None:
    chain = Chain("table ip nat", "c", "ipv4", "postrouting", rules=(masquerade(),), type="nat")
    for devices in (Devices("eth0"), Devices()):
        own, *_ = rewriting.rewritings((chain,), shaped(VXLAN), devices)
        assert [sample.name for sample in own.samples][:1] == ["UDP 4500 to 172.18.0.7"]
        assert not own.sure


def test_a_rule_that_gives_another_destination() -> None:
    port = Condition("dport", ("4500",))
    assert found(Rule("redirect", (port,), "redirect", ":4501"), hook="prerouting") == [
        "UDP 4500 from 172.18.0.7"
    ]
    assert found(Rule("dnat", (port,), "dnat", "172.18.0.8"), hook="prerouting") == []
    web = Condition("dport", ("80",))
    assert found(Rule("dnat", (web,), "dnat", "10.44.0.9"), hook="prerouting") == []


def test_firewalld_masquerades_all_but_the_cable_after_the_hint() -> None:
    cable = shaped("tunnel v4")
    before = rewriting.rewritings(filters("firewalld-1.3-masquerade"), cable, DEVICES)
    assert [each.breaks for each in before] == [False, True]
    assert rewriting.rewritings(filters("firewalld-1.3-exempt"), cable, DEVICES) == ()


def test_the_command_that_exempts_the_cable() -> None:
    cable = shaped("tunnel v4")
    chains = filters("firewalld-1.3-masquerade")
    each = rewriting.rewritings(chains, cable, DEVICES)[1]
    assert remedies.exemption(chains, each.chain, each.samples).split("sudo ")[1:] == [
        "firewall-cmd --permanent --new-ipset=cablectl --type=hash:net; ",
        "firewall-cmd --permanent --ipset=cablectl --add-entry=10.45.0.0/16 && ",
        "firewall-cmd --permanent --zone=public --remove-masquerade && ",
        'firewall-cmd --permanent --zone=public --add-rich-rule=\'rule family="ipv4" source not'
        ' ipset="cablectl" destination not ipset="cablectl" masquerade\' && ',
        "firewall-cmd --reload",
    ]


def test_the_device_of_a_subnet() -> None:
    subnet = shaped("tunnel v4").local.networks[0]
    held = {"lo": ["10.44.0.1/32"], "eth0": ["172.18.0.8/16"], "eth1": ["10.44.0.1/16"]}
    assert device_of(subnet, held) == "eth1"
    assert device_of(subnet, {"lo": ["10.44.0.1/32"]}) == ""
