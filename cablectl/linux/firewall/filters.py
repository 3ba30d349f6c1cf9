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
#   oif (devices), ipsec and ipsec_out (whether it arrived by an SA, and will leave by one),
#   saddrtype and daddrtype (local, unicast); of connection tracking, which `in_flow` adds: state,
#   status (a set) and direction.
Packet = Mapping[str, Any]
UNKNOWN_DEVICE = "?"  # of a packet: some device, but not lo
# No NAT applies to the cable's own packets: `rewriting` finds the rules that would do it.
_NEW = {"state": "new", "status": frozenset[str](), "direction": "original"}
_ANSWER = {
    "state": "established",
    "status": frozenset({"seen-reply", "assured", "confirmed"}),
    "direction": "reply",
}
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
    target: str = ""  # the chain of a jump or goto, or the address and port that NAT gives


class Chain(Struct, frozen=True):
    """Rules in order; only a base chain has a `hook` and a `type`, and its `policy` counts.

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
    type: str = "filter"  # or nat: such a chain rewrites the first packet of a flow

    @property
    def place(self) -> str:
        """Table and name, for a person."""
        return f"{self.table}, chain {self.name}"

    def sees(self, packet: Packet) -> bool:
        """Tell whether the chain sees a packet, by family and device."""
        right_family = self.family in ("", packet.get("family", self.family))
        return right_family and (not self.devices or packet.get("iif") in self.devices)


class Obstacle(Struct, frozen=True):
    """A rule or policy that drops a packet or, unless `sure`, may drop it."""

    chain: Chain
    rule: str
    sure: bool


class Outcome(Struct, frozen=True):
    """A rule that ends or, unless `sure`, may end a packet's way through a chain."""

    verdict: str
    rule: Rule
    sure: bool


def in_flow(packet: Packet, *, answer: bool) -> Packet:
    """Return the packet as the first one of its flow, or as an answer in an established flow."""
    return {**packet, **(_ANSWER if answer else _NEW)}


def obstacles(chains: Iterable[Chain], hooks: Iterable[str], packet: Packet) -> Iterator[Obstacle]:
    """Yield what may drop the packet at these hooks: at most one obstacle for each base chain."""
    by_name = {(chain.table, chain.name): chain for chain in chains}
    for chain in by_name.values():
        if chain.type == "filter" and chain.hook in hooks and chain.sees(packet):
            obstacle = _obstacle(chain, by_name, packet)
            if obstacle:
                yield obstacle


def _obstacle(
    chain: Chain, by_name: Mapping[tuple[str, str], Chain], packet: Packet
) -> Obstacle | None:
    """Return the first suspect of a base chain, or the rule that drops the packet for sure."""
    suspect, may_pass = None, False
    for outcome in outcomes(chain, by_name, packet):
        drops = outcome.verdict in DROPS
        # If an earlier rule may have accepted the packet, a rule that drops the rest isn't sure.
        known = outcome.sure and not may_pass
        if drops and (known or (suspect is None and is_about(outcome.rule, packet))):
            suspect = Obstacle(chain, outcome.rule.text, sure=known)
        if outcome.sure:
            return suspect
        may_pass = may_pass or not drops
    if suspect is None and not may_pass and chain.policy in DROPS:
        return Obstacle(chain, f"policy {chain.policy}", sure=True)
    return suspect


def outcomes(
    chain: Chain,
    by_name: Mapping[tuple[str, str], Chain],
    packet: Packet,
    *,
    sure: bool = True,
    depth: int = 0,
) -> Iterator[Outcome]:
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
                for outcome in outcomes(target, by_name, packet, sure=now, depth=depth + 1):
                    yield outcome
                    if outcome.sure:
                        return
            if rule.verdict == "goto":
                if holds is True:
                    return
                sure = False
        elif rule.verdict == "return":
            if holds is True:
                return
            sure = False  # the packet may have left the chain here
        else:
            yield Outcome(rule.verdict, rule, now)
            if now:
                return


def may_hold(rule: Rule, packet: Packet) -> bool:
    """Tell whether all conditions hold, as far as they are known."""
    return _all_hold(rule, packet) is not False


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
    if field == UNKNOWN_DEVICE:
        return False if value == "lo" else None
    if isinstance(field, frozenset):
        return value in field or (value == "none" and not field)
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


def is_about(rule: Rule, packet: Packet, *, partly: bool = False) -> bool:
    """Tell whether a known condition of the rule singles the packet out, by address or port.

    With `partly`, a condition on a part of the packet's network is enough.
    """
    return any(
        not condition.negated
        and (
            (condition.field in SPECIFIC and _holds(condition, packet))
            or (partly and condition.field in ("saddr", "daddr"))
        )
        for condition in rule.conditions
    )
