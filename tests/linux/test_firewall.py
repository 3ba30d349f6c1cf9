"""Packet filters: captured output of nft and iptables-save, and which rule may drop a packet."""

import json
from ipaddress import ip_network
from typing import Any

import pytest

from cablectl.linux.firewall import iptables, nft
from cablectl.linux.firewall.filters import (
    UNKNOWN_DEVICE,
    Chain,
    Condition,
    Obstacle,
    Rule,
    in_flow,
    obstacles,
)
from tests.support.captures import (
    FIREWALL_LISTING,
    FIREWALL_TEXT,
    IPTABLES_SAVED,
    LEGACY_SAVED,
    filters,
)
from tests.support.places import CAPTURES

GUARD_LISTING = json.loads((CAPTURES / "nft-1.1.json").read_text())

NEW = {"state": "new", "status": frozenset[str](), "daddrtype": "local", "oif": UNKNOWN_DEVICE}
PEER = {"saddr": ip_network("172.18.0.7/32"), "daddr": ip_network("172.18.0.8/32")}
IKE = {**PEER, "family": "ipv4", "protocol": "udp", "dport": 4500, "iif": "eth0"}


def packet(**fields: Any) -> dict[str, Any]:  # noqa: ANN401 - as packets are
    """Return a UDP packet of a new flow from the peer to port 4500, with these fields changed."""
    return {**IKE, **NEW, "ipsec": False, **fields}


def chain(*rules: Rule, policy: str = "accept") -> Chain:
    return Chain("table inet t", "c", hook="input", policy=policy, rules=rules)


def rule(verdict: str, *conditions: Condition, target: str = "") -> Rule:
    return Rule(f"{verdict} {len(conditions)}", conditions, verdict, target)


def fate(*chains: Chain, **fields: Any) -> str:  # noqa: ANN401
    """Return the rule that drops a packet, with a ? if it only may drop it; "" if none does."""
    found = obstacles(chains, ("input",), packet(**fields))
    return ", ".join(f"{obstacle.rule}{'' if obstacle.sure else '?'}" for obstacle in found)


UDP_4500 = (Condition("protocol", ("udp",)), Condition("dport", ("4500",)))
UNCLEAR = Condition("")
OTHER_SOURCE = Condition("saddr", ("10.0.0.0/8",))


class TestFate:
    @pytest.mark.parametrize(
        ("rules", "policy", "expected"),
        [
            ([], "accept", ""),
            ([], "drop", "policy drop"),
            ([rule("drop", *UDP_4500)], "accept", "drop 2"),
            ([rule("reject", *UDP_4500)], "accept", "reject 2"),
            ([rule("accept", *UDP_4500), rule("drop")], "accept", ""),
            ([rule("accept", *UDP_4500)], "drop", ""),
            ([rule("drop", *UDP_4500, OTHER_SOURCE)], "accept", ""),
            ([rule("drop", *UDP_4500, UNCLEAR)], "accept", "drop 3?"),
            # After a return that isn't known, nothing is sure.
            ([rule("return", UNCLEAR), rule("drop", *UDP_4500)], "accept", "drop 2?"),
            ([rule("return", UNCLEAR), rule("drop")], "accept", ""),
            ([rule("return", OTHER_SOURCE), rule("drop")], "accept", "drop 0"),
            # No known condition singles the packet out: a limit, a set that isn't known.
            ([rule("drop", UNCLEAR)], "accept", ""),
            ([rule("drop", Condition("protocol", ("udp",)), UNCLEAR)], "accept", ""),
            ([rule("accept", UNCLEAR)], "drop", ""),
            ([rule("accept", UNCLEAR), rule("drop")], "accept", ""),
            ([rule("accept", UNCLEAR), rule("drop", *UDP_4500)], "accept", "drop 2?"),
            ([rule("drop", *UDP_4500, UNCLEAR), rule("accept")], "drop", "drop 3?"),
            ([rule("drop", *UDP_4500, UNCLEAR), rule("drop")], "accept", "drop 0"),
            ([rule("", *UDP_4500), rule("return")], "drop", "policy drop"),
            ([rule("jump", target="nowhere")], "accept", ""),
        ],
    )
    def test_of_a_packet(self, rules: list[Rule], policy: str, expected: str) -> None:
        assert fate(chain(*rules, policy=policy)) == expected

    @pytest.mark.parametrize(
        ("jump", "inner", "expected"),
        [
            (rule("jump", target="i"), [rule("drop", *UDP_4500)], "drop 2"),
            (rule("jump", target="i"), [rule("accept")], ""),
            (rule("jump", target="i"), [rule("return"), rule("accept")], "policy drop"),
            (rule("jump", OTHER_SOURCE, target="i"), [rule("accept")], "policy drop"),
            (rule("jump", UNCLEAR, target="i"), [rule("accept")], ""),
            (rule("jump", UNCLEAR, target="i"), [rule("drop", *UDP_4500)], "drop 2?"),
            (rule("jump", target="i"), [rule("return", UNCLEAR), rule("accept")], ""),
            (rule("jump", target="i"), [rule("return", UNCLEAR), rule("drop")], "policy drop"),
            (rule("goto", target="i"), [], "policy drop"),
            (rule("jump", target="c"), [], "policy drop"),  # a chain that jumps to itself
        ],
    )
    def test_of_a_packet_that_enters_another_chain(
        self, jump: Rule, inner: list[Rule], expected: str
    ) -> None:
        other = Chain("table inet t", "i", rules=tuple(inner))
        assert fate(chain(jump, policy="drop"), other) == expected

    def test_a_goto_doesnt_return(self) -> None:
        other = Chain("table inet t", "i", rules=(rule("return"),))
        assert fate(chain(rule("goto", target="i"), rule("drop")), other) == ""

    @pytest.mark.parametrize(
        ("condition", "holds"),
        [
            (Condition("dport", ("4000-4499", "4500-4510")), True),
            (Condition("dport", ("4501-4510",)), False),
            (Condition("dport", ("4500",), negated=True), False),
            (Condition("dport", ("22",), negated=True), True),
            (Condition("iif", ("eth*",)), True),
            (Condition("iif", ("eth",)), False),
            (Condition("saddr", ("172.18.0.0/16",)), True),
            (Condition("saddr", ("172.18.0.8",)), False),
            (Condition("saddr", ("2001:db8::/32",)), False),
            (Condition("ipsec", ("false",)), True),
            (Condition("ipsec", ("true",)), False),
            (Condition("state", ("established", "new")), True),
            (Condition("family", ("ipv6",)), False),
            (Condition("status", ("dnat",)), False),
            (Condition("status", ("snat", "dnat"), negated=True), True),
            (Condition("status", ("none",)), True),
            (Condition("daddrtype", ("local",)), True),
            (Condition("daddrtype", ("multicast", "broadcast")), False),
            (Condition("oif", ("lo",)), False),
            # Not known, and no other condition singles the packet out: no obstacle.
            (Condition("oif", ("lo", "eth0")), False),
            (Condition("saddr", ("172.18.0.7-172.18.0.9",)), False),
            (Condition("dport", ("isakmp",)), False),
            (Condition("mark", ("1",)), False),
        ],
    )
    def test_of_a_condition(self, condition: Condition, holds: bool) -> None:
        assert (fate(chain(rule("drop", condition))) == "drop 1") == holds

    def test_a_rule_for_a_part_of_the_packets_network(self) -> None:
        """The rule drops packets of some hosts, so a packet of the whole subnet isn't sure."""
        part = Condition("saddr", ("10.45.1.0/24",))
        subnet = ip_network("10.45.0.0/16")
        assert fate(chain(rule("drop", part)), saddr=subnet) == ""
        with_port = rule("drop", Condition("dport", ("4500",)), part)
        assert fate(chain(with_port), saddr=subnet) == "drop 2?"

    def test_a_chain_of_a_device_sees_only_the_devices_packets(self) -> None:
        """`nft -j` prints the family netdev's device as a string, several devices as a list."""

        def listed(dev: str | list[str]) -> tuple[Chain, ...]:
            hook = {"type": "filter", "hook": "ingress", "policy": "drop", "dev": dev}
            chain = {"family": "netdev", "table": "t", "name": "c", **hook}
            return nft.parse({"nftables": [{"chain": chain}]}, "")

        def drops(chains: tuple[Chain, ...]) -> bool:
            return bool(list(obstacles(chains, ("ingress",), packet())))

        assert drops(listed("eth0"))
        assert drops(listed(["eth1", "eth0"]))
        assert not drops(listed("eth1"))

    def test_a_chain_sees_one_family_and_hook(self) -> None:
        six = Chain("t6", "c", family="ipv6", hook="input", policy="drop")
        elsewhere = Chain("t", "o", hook="output", policy="drop")
        assert fate(six, elsewhere) == ""
        assert fate(six, family="ipv6") == "policy drop"


def test_the_first_packet_of_a_flow_and_an_answer() -> None:
    assert in_flow({}, answer=False)["state"] == "new"
    assert in_flow({}, answer=True)["state"] == "established"
    assert "dnat" not in in_flow({}, answer=True)["status"]


class TestNft:
    """tests/captures/firewall-nft.json: one rule of every kind, in the order of the text."""

    def chains(self) -> dict[str, Chain]:
        chains = nft.parse(FIREWALL_LISTING, FIREWALL_TEXT, ["ip filter"])
        return {chain.name: chain for chain in chains}

    def test_the_chains(self) -> None:
        chains = self.chains()
        assert list(chains) == ["input", "wan", "deep"]
        assert (chains["input"].hook, chains["input"].policy) == ("input", "drop")
        assert (chains["input"].table, chains["wan"].hook) == ("table inet filter", "")

    def test_the_rules(self) -> None:
        rules = self.chains()["input"].rules
        ct, lo = rules[:3], rules[4]
        states = {rule.conditions[0].values: rule.verdict for rule in ct}
        assert states == {
            ("invalid",): "drop",
            ("established",): "accept",
            ("related",): "accept",
        }
        quote = 'iifname vmap { "eth*" : jump wan, "lo" : accept }'
        assert lo == Rule(quote, (Condition("iif", ("lo",)),), "accept")
        quoted = {rule.text: rule for rule in rules}
        blocked = quoted["ip saddr @blocked udp dport { 500, 4500 } counter packets 0 bytes 0 drop"]
        assert blocked.conditions == (
            Condition("family", ("ipv4",)),
            Condition("saddr", ("10.0.0.1", "172.18.0.0/24")),
            Condition("protocol", ("udp",)),
            Condition("dport", ("500", "4500")),
        )
        limited = quoted["udp dport 4500-4510 limit rate over 10/second drop"]
        assert limited.conditions[1:] == (Condition("dport", ("4500-4510",)), UNCLEAR)
        assert quoted["ip protocol esp drop"].conditions[1] == Condition("protocol", ("esp",))
        ipsec = quoted["meta ipsec exists udp dport 4789 accept"]
        assert ipsec.conditions[0] == Condition("ipsec", ("true",))
        (several,) = quoted["ip saddr . udp dport { 1.2.3.4 . 4500 } drop"].conditions
        assert several == UNCLEAR
        negated = quoted["ip saddr != 172.18.0.7-172.18.0.9 drop"].conditions[1]
        assert negated == Condition("saddr", ("172.18.0.7-172.18.0.9",), negated=True)

    def test_the_rules_that_drop_a_packet(self) -> None:
        chains = tuple(self.chains().values())

        def dropped_by(**fields: Any) -> list[Obstacle]:  # noqa: ANN401
            return list(obstacles(chains, ("input",), packet(**fields)))

        def rule(text: str) -> list[Obstacle]:
            return [Obstacle(self.chains()["input"], text, sure=True)]

        assert dropped_by(state="established") == []
        (invalid,) = dropped_by(state="invalid")
        assert invalid.rule.startswith("ct state vmap")
        assert dropped_by(dport=500) == []  # the chain wan accepts it
        assert dropped_by() == rule(
            "ip saddr @blocked udp dport { 500, 4500 } counter packets 0 bytes 0 drop"
        )
        assert dropped_by(protocol="esp", dport=None) == rule(
            "meta nfproto ipv4 meta l4proto { gre, esp } drop"
        )
        assert dropped_by(dport=4789, ipsec=True) == []
        assert dropped_by(dport=4789) == rule(
            "ip saddr 172.18.0.7 reject with icmpx admin-prohibited"
        )

    def test_tables_of_iptables_are_parsed_unless_named(self) -> None:
        chains = nft.parse(FIREWALL_LISTING, FIREWALL_TEXT)
        (rules,) = (chain.rules for chain in chains if chain.name == "INPUT")
        reject, several, esp = rules
        assert reject.verdict == "reject"
        assert UNCLEAR in several.conditions
        assert esp.conditions[0] == Condition("protocol", ("esp",))

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ({"ct": {"key": "status"}}, Condition("status", ("x",))),
            ({"ct": {"key": "direction"}}, Condition("direction", ("x",))),
            (
                {"fib": {"result": "type", "flags": ["daddr"]}},
                Condition("daddrtype", ("x",)),
            ),
            ({"fib": {"result": "type", "flags": "saddr"}}, Condition("saddrtype", ("x",))),
            ({"fib": {"result": "type", "flags": ["daddr", "iif"]}}, UNCLEAR),
            ({"fib": {"result": "oif", "flags": ["saddr", "iif"]}}, UNCLEAR),
            ({"ct": {"key": "ip saddr", "dir": "original"}}, UNCLEAR),
            ({"rt": {"key": "ipsec"}}, Condition("ipsec_out", ("x",))),
        ],
    )
    def test_an_expression(self, expression: dict[str, Any], expected: Condition) -> None:
        place = {"family": "ip", "table": "t", "chain": "c", "handle": 1}
        match = {"match": {"op": "==", "left": expression, "right": "x"}}
        chain = {"family": "ip", "table": "t", "name": "c"}
        listing = {
            "nftables": [{"chain": chain}, {"rule": {**place, "expr": [match, {"drop": None}]}}]
        }
        ((found,),) = (chain.rules for chain in nft.parse(listing, ""))
        assert found.conditions == (expected,)

    def test_icmpv6_implies_its_protocol(self) -> None:
        """firewalld accepts neighbour discovery first; that isn't the cable's packet."""
        chains = filters("firewalld-1.3-blocked")
        (allow,) = (c for c in chains if c.name == "filter_IN_policy_allow-host-ipv6_allow")
        assert allow.rules[0].conditions[0] == Condition("protocol", ("ipv6-icmp",))

    def test_the_guard_is_left_out(self) -> None:
        assert GUARD_LISTING["nftables"]
        assert nft.parse(GUARD_LISTING, "") == ()

    def test_an_empty_listing(self) -> None:
        assert nft.parse({}, "") == ()


class TestIptables:
    def test_iptables_on_nftables_is_told_from_legacy_iptables(self) -> None:
        assert iptables.is_nftables(IPTABLES_SAVED)
        assert not iptables.is_nftables(LEGACY_SAVED)
        assert not iptables.is_nftables("")
        assert iptables.tables(LEGACY_SAVED) == ("filter",)

    def test_the_chains_and_rules(self) -> None:
        chains = {chain.name: chain for chain in iptables.parse(LEGACY_SAVED, "iptables-legacy")}
        assert list(chains) == ["INPUT", "FORWARD", "OUTPUT", "X"]
        assert [chain.hook for chain in chains.values()] == ["input", "forward", "output", ""]
        assert chains["FORWARD"].policy == "drop"
        assert chains["INPUT"].family == "ipv4"
        reject, several, esp, to_x, ipsec = chains["INPUT"].rules
        assert reject.verdict == "reject"
        assert reject.text.endswith("-j REJECT --reject-with icmp-port-unreachable")
        assert reject.conditions == UDP_4500
        assert several.conditions == (
            Condition("saddr", ("10.0.0.0/8",), negated=True),
            Condition("iif", ("eth0",)),
            Condition("protocol", ("udp",)),
            Condition("dport", ("500", "4500")),
        )
        assert esp.conditions[1:] == (Condition("state", ("new", "established")), UNCLEAR)
        assert (to_x.verdict, to_x.target) == ("goto", "X")
        assert ipsec.conditions[1] == Condition("ipsec", ("true",))
        assert chains["X"].rules[0].verdict == "return"
        assert chains["X"].rules[0].conditions[1] == Condition("sport", ("100-200",))

    def test_the_rule_that_drops_a_packet(self) -> None:
        chains = iptables.parse(LEGACY_SAVED, "iptables-legacy")
        (found,) = obstacles(chains, ("input",), packet())
        assert found.chain.place == "iptables-legacy filter, chain INPUT"
        assert found.rule == (
            "-A INPUT -p udp -m udp --dport 4500 -j REJECT --reject-with icmp-port-unreachable"
        )
        assert found.sure
        chains_of_ipv6 = iptables.parse(LEGACY_SAVED, "ip6tables-legacy")
        assert list(obstacles(chains_of_ipv6, ("input",), packet())) == []

    def test_what_connection_tracking_and_routing_know(self) -> None:
        saved = (
            "*filter\n:INPUT ACCEPT [0:0]\n"
            "-A INPUT -m conntrack --ctstatus SEEN_REPLY,DNAT -j ACCEPT\n"
            "-A INPUT -m addrtype ! --dst-type LOCAL -j DROP\n"
            "-A INPUT -m addrtype --dst-type LOCAL --limit-iface-in -j DROP\n"
            "-A INPUT -m policy --dir out --pol ipsec -j ACCEPT\n"
        )
        ((tracked, local, limited, ipsec),) = (
            chain.rules for chain in iptables.parse(saved, "iptables")
        )
        assert tracked.conditions == (Condition("status", ("seen-reply", "dnat")),)
        assert local.conditions == (Condition("daddrtype", ("local",), negated=True),)
        assert limited.conditions == (Condition("daddrtype", ("local",)), UNCLEAR)
        assert ipsec.conditions == (Condition("ipsec_out", ("true",)),)

    def test_ufws_chain_for_packets_that_are_not_local(self) -> None:
        chains = {chain.name: chain for chain in filters("ufw-0.36-blocked")}
        local, *_ = chains["ufw-not-local"].rules
        assert local.conditions == (Condition("daddrtype", ("local",)),)
        assert local.verdict == "return"

    def test_devices_and_numbers(self) -> None:
        saved = "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -i wlan+ ! -p 50 -j NFQUEUE --queue-num 1\n"
        ((only,),) = (chain.rules for chain in iptables.parse(saved, "iptables"))
        assert only.conditions == (
            Condition("iif", ("wlan*",)),
            Condition("protocol", ("esp",), negated=True),
            UNCLEAR,
        )
        assert fate(*iptables.parse(saved, "iptables")) == ""
