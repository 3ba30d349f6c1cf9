"""nftables' rules from what `nft -j list ruleset` prints (libnftables-json(5))."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from cablectl.linux.firewall.filters import PROTOCOLS, Chain, Condition, Rule

# What an expression reads, and what a packet calls it.
_FIELDS = {
    "udp dport": "dport",
    "udp sport": "sport",
    "th dport": "dport",
    "th sport": "sport",
    "ip saddr": "saddr",
    "ip daddr": "daddr",
    "ip6 saddr": "saddr",
    "ip6 daddr": "daddr",
    "ip protocol": "protocol",
    "ip6 nexthdr": "protocol",
    "meta l4proto": "protocol",
    "meta nfproto": "family",
    "meta iifname": "iif",
    "meta iif": "iif",
    "meta oifname": "oif",
    "meta oif": "oif",
    "meta ipsec": "ipsec",
    "meta secpath": "ipsec",
    "rt ipsec": "ipsec",
    "ct state": "state",
}
# A header that is read has to be there.
_IMPLIED = {"ip": [Condition("family", ("ipv4",))], "ip6": [Condition("family", ("ipv6",))]}
_FAMILIES = {"inet": "", "netdev": "", "ip": "ipv4", "ip6": "ipv6"}
_TRANSPORTS = ("udp", "tcp", "sctp", "dccp", "udplite", "esp", "ah", "icmp")
_ASKING = ("limit", "quota", "ct count", "fib", "osf")  # of statements, what lets some pass
_UNCLEAR = Condition("")

Json = dict[str, Any]
Sets = dict[str, list[Any]]  # of one table, by name


def parse(listing: Json, text: str, iptables: Collection[str] = ()) -> tuple[Chain, ...]:
    """Return the chains of all tables that see IP, those of cablectl's own left out.

    `text` is what `nft -a list ruleset` prints: a rule is quoted from there, by its handle.
    `iptables` are tables as `ip filter` that iptables made, which shows more of them than nft does.
    """
    objects = [
        (kind, value)
        for each in listing.get("nftables", ())
        for kind, value in each.items()
        if value.get("family") in _FAMILIES
        and not value.get("table", "").startswith("cablectl_")
        and f"{value['family']} {value.get('table')}" not in iptables
    ]
    quotes = _quotes(text)
    sets: dict[str, Sets] = {}
    for kind, value in objects:
        if kind in ("set", "map"):
            sets.setdefault(_table(value), {})[value["name"]] = value.get("elem", [])
    rules: dict[tuple[str, str], list[Rule]] = {}
    for kind, value in objects:
        if kind == "rule":
            table, chain = _table(value), value["chain"]
            quote = quotes.get((table, chain, value["handle"]), f"rule {value['handle']}")
            found = _rules(value["expr"], quote, sets.get(table, {}))
            rules.setdefault((table, chain), []).extend(found)
    return tuple(
        Chain(
            table=_table(value),
            name=value["name"],
            family=_FAMILIES[value["family"]],
            hook=value.get("hook", "") if value.get("type") == "filter" else "",
            policy=value.get("policy", "accept"),
            rules=tuple(rules.get((_table(value), value["name"]), ())),
            devices=_devices(value.get("dev", ())),
        )
        for kind, value in objects
        if kind == "chain"
    )


def _table(value: Json) -> str:
    return f"table {value['family']} {value['table']}"


def _devices(told: str | list[str]) -> tuple[str, ...]:
    """Return what a chain of the family netdev hangs on: one device, or several."""
    return (told,) if isinstance(told, str) else tuple(told)


def _quotes(text: str) -> dict[tuple[str, str, int], str]:
    """Return the rules as a person writes them, by table, chain and handle."""
    quotes, table, chain = {}, "", ""
    for line in text.splitlines():
        if found := re.match(r"(table \w+ \S+) \{", line):
            table = found[1]
        elif found := re.match(r"\tchain (\S+) \{", line):
            chain = found[1]
        elif found := re.match(r"\t\t(.+) # handle (\d+)$", line):
            quotes[table, chain, int(found[2])] = " ".join(found[1].split())
    return quotes


def _rules(expressions: list[Json], quote: str, sets: Sets) -> Iterator[Rule]:
    """Yield a rule; one that looks a verdict up in a map is a rule for each of the map's keys."""
    conditions: list[Condition] = []
    for each in expressions:
        ((kind, value),) = each.items()
        if kind == "match":
            conditions += _match(value, sets)
        elif kind == "vmap":
            for key, verdict in _elements(value["data"], sets) or []:
                chosen = [*conditions, *_read(value["key"], [key], negated=False)]
                yield _rule(quote, chosen, *next(iter(verdict.items())))
            return
        elif kind in ("accept", "drop", "reject", "return", "jump", "goto"):
            yield _rule(quote, conditions, kind, value)
            return
        elif kind == "xt" and value == {"type": "target", "name": "REJECT"}:
            yield _rule(quote, conditions, "reject", None)
            return
        elif kind in _ASKING or (kind == "xt" and (value or {}).get("type") != "target"):
            conditions.append(_UNCLEAR)


def _rule(quote: str, conditions: list[Condition], verdict: str, value: Json | None) -> Rule:
    return Rule(quote, tuple(conditions), verdict, (value or {}).get("target", ""))


def _match(match: Json, sets: Sets) -> list[Condition]:
    values = _elements(match["right"], sets)
    if values is None or match["op"] not in ("==", "!=", "in"):
        values = []
    return _read(match["left"], values, negated=match["op"] == "!=")


def _elements(right: Any, sets: Sets) -> list[Any] | None:  # noqa: ANN401 - a value of JSON
    """Return what a right side, or a map, consists of; None if that isn't known."""
    if isinstance(right, str) and right.startswith("@"):
        return sets.get(right[1:])
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    return right if isinstance(right, list) else [right]


def _read(left: Json, elements: list[Any], *, negated: bool) -> list[Condition]:
    """Return what is asked of the packet: that what is read is there, and what it is."""
    ((kind, what),) = left.items()
    if not isinstance(what, dict):  # a part of a field, or several at once
        return [_UNCLEAR]
    header = what.get("protocol", kind) if kind == "payload" else kind
    name = f"{header} {what.get('field' if kind == 'payload' else 'key')}"
    values = [_value(each) for each in elements]
    field = _FIELDS.get(name)
    if field == "protocol":
        values = [PROTOCOLS.get(each, each) for each in values if each]
    known = field and values and None not in values
    asked = Condition(field, tuple(map(str, values)), negated) if field and known else _UNCLEAR
    if header in _TRANSPORTS:
        return [Condition("protocol", (header,)), asked]
    return [*_IMPLIED.get(header, ()), asked]


def _value(element: Any) -> str | None:  # noqa: ANN401
    """Return a value as a condition has it; None for what isn't understood."""
    match element:
        case bool():
            return str(element).lower()
        case {"elem": {"val": inner}}:
            return _value(inner)
        case {"prefix": {"addr": address, "len": length}}:
            return f"{address}/{length}"
        case {"range": [low, high]}:
            return f"{low}-{high}"
        case int() | str():
            return str(element)
        case _:
            return None
