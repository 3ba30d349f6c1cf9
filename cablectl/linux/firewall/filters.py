"""Which rules of a host's packet filter drop a packet, or may drop it.

A condition of a rule holds, doesn't hold, or isn't known (a limit, a set that changes). So a rule
drops the packet for sure, may drop it, or lets it pass. `nft` and `iptables` parse the rules of
both programs into the same chains.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_network
from typing import Any

from msgspec import Struct

from cablectl.linux.xfrm import PROTOCOL_KEYWORDS
from cablectl.model.wishes import AnyNetwork

DROPS = ("drop", "reject")
MAX_DEPTH = 16  # of jumps, as many as nftables allows (nft(8))

# The fields of a packet, each of which may be missing:
#   family (ipv4), protocol (udp), saddr and daddr (networks), sport and dport (numbers), iif and
#   oif (devices), ipsec (whether it arrived or leaves by an SA), state (connection tracking's).
Packet = Mapping[str, Any]
PROTOCOLS = {**PROTOCOL_KEYWORDS, "50": "esp"}
# The fields that single packets out: a rule that is not fully known is a suspect only with one.
SPECIFIC = ("saddr", "daddr", "sport", "dport")


class Condition(Struct, frozen=True):
    """A condition: the field has one of the values or, negated, none of them.

    A value is a number, a range such as `4500-4510`, a network, or a word, which may end in `*`. A
    `field` of "" is a condition that cablectl doesn't understand.
    """

    field: str
    values: tuple[str, ...] = ()
    negated: bool = False


class Rule(Struct, frozen=True):
    """A rule: its verdict if all conditions hold; with a verdict of "" the next rule follows."""

    text: str
    conditions: tuple[Condition, ...] = ()
    verdict: str = ""
    target: str = ""  # the chain of a jump or goto


class Chain(Struct, frozen=True):
    """Rules in order; only a base chain has a `hook`, and its `policy` counts.

    `family` is ipv4 or ipv6 if the chain sees only that family, else "". `devices` are the only
    ones whose packets the chain sees; empty is all.
    """

    table: str
    name: str
    family: str = ""
    hook: str = ""
    policy: str = "accept"
    rules: tuple[Rule, ...] = ()
    devices: tuple[str, ...] = ()

    def sees(self, packet: Packet) -> bool:
        """Tell whether the chain sees a packet, by family and device."""
        right_family = self.family in ("", packet.get("family", self.family))
        return right_family and (not self.devices or packet.get("iif") in self.devices)


class Obstacle(Struct, frozen=True):
    """A rule or policy that drops a packet or, unless `sure`, may drop it."""

    chain: str
    rule: str
    sure: bool


class _Outcome(Struct, frozen=True):
    """A rule that ends or, unless `sure`, may end a packet's way through a chain."""

    verdict: str
    rule: Rule
    sure: bool


def obstacles(chains: Iterable[Chain], hooks: Iterable[str], packet: Packet) -> Iterator[Obstacle]:
    """Yield what may drop the packet at these hooks: at most one obstacle for each base chain."""
    by_name = {(chain.table, chain.name): chain for chain in chains}
    for chain in by_name.values():
        if chain.hook in hooks and chain.sees(packet):
            obstacle = _obstacle(chain, by_name, packet)
            if obstacle:
                yield obstacle


def _obstacle(
    chain: Chain, by_name: Mapping[tuple[str, str], Chain], packet: Packet
) -> Obstacle | None:
    """Return the first suspect of a base chain, or the rule that drops the packet for sure."""
    where, suspect, may_pass = f"{chain.table}, chain {chain.name}", None, False
    for outcome in _outcomes(chain, by_name, packet, sure=True, depth=0):
        drops = outcome.verdict in DROPS
        # If an earlier rule may have accepted the packet, a rule that drops the rest isn't sure.
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
    by_name: Mapping[tuple[str, str], Chain],
    packet: Packet,
    *,
    sure: bool,
    depth: int,
) -> Iterator[_Outcome]:
    """Yield the outcomes of a chain and the chains it jumps to, up to the first sure outcome.

    `sure` says whether the packet is sure to enter the chain. A return to the calling chain, or
    the chain's end, yields nothing.
    """
    for rule in chain.rules:
        holds = _all_hold(rule, packet)
        if holds is False or not rule.verdict:
            continue
        now = sure and holds is True
        if rule.verdict in ("jump", "goto"):
            target = by_name.get((chain.table, rule.target))
            if target and depth < MAX_DEPTH:
                for outcome in _outcomes(target, by_name, packet, sure=now, depth=depth + 1):
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
    """Tell whether all conditions hold; None if none fails, but one isn't known."""
    answers = [_holds(condition, packet) for condition in rule.conditions]
    if False in answers:
        return False
    return None if None in answers else True


def _holds(condition: Condition, packet: Packet) -> bool | None:
    """Tell whether a condition holds; None if that isn't known."""
    if condition.field not in packet:
        return None
    answers = [_is(value, packet[condition.field]) for value in condition.values]
    if True in answers:
        return not condition.negated
    return None if None in answers else condition.negated


def _is(value: str, field: Any) -> bool | None:  # noqa: ANN401 - a number, network or word
    """Tell whether a packet's field has a value; None if that isn't known."""
    if isinstance(field, int) and not isinstance(field, bool):
        low, _, high = value.partition("-")
        known = low.isdecimal() and (high or low).isdecimal()
        return int(low) <= field <= int(high or low) if known else None
    if isinstance(field, str | bool):
        text = str(field).lower() if isinstance(field, bool) else field
        return text.startswith(value[:-1]) if value.endswith("*") else text == value
    return _within(field, value)


def _within(network: AnyNetwork, value: str) -> bool | None:
    """Tell whether a network is in another; None if only a part is, or `value` isn't a network."""
    try:
        other = ip_network(value, strict=False)
    except ValueError:  # a range of addresses, or a host's name
        return None
    if network.version != other.version or not network.overlaps(other):
        return False
    return True if network.prefixlen >= other.prefixlen else None


def _is_about(rule: Rule, packet: Packet) -> bool:
    """Tell whether a known condition of the rule singles the packet out, by address or port."""
    return any(
        condition.field in SPECIFIC and not condition.negated and _holds(condition, packet)
        for condition in rule.conditions
    )
