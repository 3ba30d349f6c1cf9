"""Whether a host's packet filter lets a packet pass, as far as its rules can be understood.

What a rule asks of a packet is a condition that holds, doesn't, or can't be told: a counter, a
limit, a set that changes. So the answer is that a rule drops the packet, that it may, or nothing.
nftables and iptables are read into the same chains (`nft`, `iptables`).
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from msgspec import Struct

from cablectl.model.wishes import AnyNetwork, IpProtocol

DROPS = ("drop", "reject")
MAX_DEPTH = 16  # of jumps, as many as nftables allows (nft(8))

# What a packet is known by, and any of these may be missing:
#   family (ipv4), protocol (udp), saddr and daddr (networks), sport and dport (numbers),
#   iif and oif (devices), ipsec (whether it came or leaves by an SA), state (of its connection).
Packet = Mapping[str, Any]
# What filters call a protocol, by number or as /etc/protocols has it → IANA's keyword.
PROTOCOLS = {
    **{str(protocol.number): protocol.value for protocol in IpProtocol},
    "50": "esp",
    "ipencap": IpProtocol.IPV4.value,
}
# By these it is told from others: an unclear rule that has none of them is no suspect.
SPECIFIC = ("saddr", "daddr", "sport", "dport")


class Condition(Struct, frozen=True):
    """What a rule asks: that a field has one of these values, or none of them; "" isn't understood.

    A value is a number or two of them as `4500-4510`, a network, or a word, which may end in `*`.
    """

    field: str
    values: tuple[str, ...] = ()
    negated: bool = False


class Rule(Struct, frozen=True):
    """What it asks of a packet and what becomes of it; no verdict goes on to the next rule."""

    text: str
    conditions: tuple[Condition, ...] = ()
    verdict: str = ""
    target: str = ""  # of jump and goto


class Chain(Struct, frozen=True):
    """Rules in order; `hook` and `policy` are those of a base chain.

    `family` is ipv4 or ipv6 where it sees one of them alone, and so are `devices`.
    """

    table: str
    name: str
    family: str = ""
    hook: str = ""
    policy: str = "accept"
    rules: tuple[Rule, ...] = ()
    devices: tuple[str, ...] = ()

    def sees(self, packet: Packet) -> bool:
        """Tell whether a packet passes it, at its hook."""
        family = self.family in ("", packet.get("family", self.family))
        return family and (not self.devices or packet.get("iif") in self.devices)


class Obstacle(Struct, frozen=True):
    """What may drop a packet: a chain, its rule or policy, and whether every condition is known."""

    chain: str
    rule: str
    sure: bool


class _Outcome(Struct, frozen=True):
    verdict: str
    rule: Rule
    sure: bool


def obstacles(chains: Iterable[Chain], hooks: Iterable[str], packet: Packet) -> Iterator[Obstacle]:
    """Yield what may drop the packet at these hooks: at most one for each base chain."""
    every = {(each.table, each.name): each for each in chains}
    for chain in every.values():
        if chain.hook in hooks and chain.sees(packet):
            found = _obstacle(chain, every, packet)
            if found:
                yield found


def _obstacle(
    chain: Chain, every: Mapping[tuple[str, str], Chain], packet: Packet
) -> Obstacle | None:
    where, suspect, may_pass = f"{chain.table}, chain {chain.name}", None, False
    for outcome in _outcomes(chain, every, packet, sure=True, depth=0):
        drops = outcome.verdict in DROPS
        # After a rule that may have let it pass, what drops all the rest is no suspect.
        known = outcome.sure and not may_pass
        if drops and (known or (suspect is None and _is_about(outcome.rule, packet))):
            suspect = Obstacle(where, outcome.rule.text, sure=known)
        if outcome.sure:
            return suspect
        may_pass = may_pass or not drops
    if suspect is None and not may_pass and chain.policy in DROPS:
        return Obstacle(where, f"policy {chain.policy}", sure=True)
    return suspect


def _outcomes(
    chain: Chain,
    every: Mapping[tuple[str, str], Chain],
    packet: Packet,
    *,
    sure: bool,
    depth: int,
) -> Iterator[_Outcome]:
    """Yield what ends the packet's way in a chain and those it leads to, up to the first for sure.

    A chain that returns to its caller for sure, or ends, yields nothing for that.
    """
    for rule in chain.rules:
        holds = _all_hold(rule, packet)
        if holds is False or not rule.verdict:
            continue
        now = sure and holds is True
        if rule.verdict in ("jump", "goto"):
            target = every.get((chain.table, rule.target))
            if target and depth < MAX_DEPTH:
                for outcome in _outcomes(target, every, packet, sure=now, depth=depth + 1):
                    yield outcome
                    if outcome.sure:
                        return
            if rule.verdict == "goto" and holds is True:
                return
        elif rule.verdict == "return":
            if holds is True:
                return
        else:
            yield _Outcome(rule.verdict, rule, now)
            if now:
                return


def _all_hold(rule: Rule, packet: Packet) -> bool | None:
    """Tell whether all conditions hold: no if one doesn't, else None if one isn't known."""
    each = [_holds(condition, packet) for condition in rule.conditions]
    return False if False in each else None if None in each else True


def _holds(condition: Condition, packet: Packet) -> bool | None:
    if condition.field not in packet:
        return None
    found = [_is(value, packet[condition.field]) for value in condition.values]
    held = True if True in found else None if None in found else False
    return held if held is None or not condition.negated else not held


def _is(value: str, field: Any) -> bool | None:  # noqa: ANN401 - whatever a packet has there
    """Tell whether a field has a value; None if a network is only partly in another."""
    if isinstance(field, int) and not isinstance(field, bool):
        low, _, high = value.partition("-")
        known = low.isdecimal() and (high or low).isdecimal()
        return int(low) <= field <= int(high or low) if known else None
    if isinstance(field, str | bool):
        text = str(field).lower() if isinstance(field, bool) else field
        return text.startswith(value[:-1]) if value.endswith("*") else text == value
    return _within(field, value)


def _within(network: AnyNetwork, value: str) -> bool | None:
    try:
        other = ip_network(value, strict=False)
    except ValueError:  # a range of addresses, a host's name
        return None
    if network.version != other.version or not network.overlaps(other):
        return False
    return True if network.prefixlen >= other.prefixlen else None


def _is_about(rule: Rule, packet: Packet) -> bool:
    """Tell whether a rule whose conditions aren't all known means such packets in particular."""
    return any(
        each.field in SPECIFIC and not each.negated and _holds(each, packet)
        for each in rule.conditions
    )
