"""nftables' rules, parsed from the output of `nft -j list ruleset` (libnftables-json(5))."""

import re
from collections.abc import Collection, Iterator
from typing import Any

from cablectl.linux.firewall.filters import PROTOCOLS, Chain, Condition, Rule

# What an expression reads → the packet's field.
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
    "rt ipsec": "ipsec_out",
    "ct state": "state",
    "ct status": "status",
    "ct direction": "direction",
    "fib saddr type": "saddrtype",
    "fib daddr type": "daddrtype",
}
# A rule that reads a header matches only packets that have this header.
_IMPLIED = {"ip": [Condition("family", ("ipv4",))], "ip6": [Condition("family", ("ipv6",))]}
_FAMILIES = {"inet": "", "netdev": "", "ip": "ipv4", "ip6": "ipv6"}
_TRANSPORTS = {
    **{name: name for name in ("udp", "tcp", "sctp", "dccp", "udplite", "esp", "ah", "icmp")},
    **{"icmpv6": "ipv6-icmp", "igmp": "igmp", "gre": "gre", "comp": "comp"},
}
_CONDITIONAL = ("limit", "quota", "ct count", "fib", "osf")  # statements that not all packets pass
_NAT = ("masquerade", "snat", "dnat", "redirect")
_XT_TARGETS = ("REJECT", *(verdict.upper() for verdict in _NAT), "NETMAP")
_UNCLEAR = Condition("")

Json = dict[str, Any]
Sets = dict[str, list[Any]]  # the sets and maps of one table: elements by name


def parse(listing: Json, text: str, iptables: Collection[str] = ()) -> tuple[Chain, ...]:
    """Return the chains of all tables that see IP packets, except cablectl's own tables.

    `text` is the output of `nft -a list ruleset`, from which rules are quoted by their handles.
    Tables named in `iptables`, such as `ip filter`, are left out: iptables made these tables, and
    iptables-save shows more of their rules than nft does.
    """
    objects = [
        (kind, value)
        for item in listing.get("nftables", ())
        for kind, value in item.items()
        if _is_of_others(value, iptables)
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
            parsed = _rules(value["expr"], quote, sets.get(table, {}))
            rules.setdefault((table, chain), []).extend(parsed)
    return tuple(
        Chain(
            table=_table(value),
            name=value["name"],
            family=_FAMILIES[value["family"]],
            hook=value.get("hook", ""),
            policy=value.get("policy", "accept"),
            rules=tuple(rules.get((_table(value), value["name"]), ())),
            devices=_devices(value.get("dev", ())),
            type="nat" if value.get("type") == "nat" else "filter",
        )
        for kind, value in objects
        if kind == "chain"
    )


def _is_of_others(value: Json, iptables: Collection[str]) -> bool:
    """Tell whether an object sees IP, and neither cablectl nor iptables made its table."""
    family, table = value.get("family"), value.get("table", "")
    by_cablectl, by_iptables = (
        table.startswith(("cablectl_", "cablectl-mss_")),
        f"{family} {table}" in iptables,
    )
    return family in _FAMILIES and not by_cablectl and not by_iptables


def _table(value: Json) -> str:
    """Return the table of a chain, rule or set, in nft's words."""
    return f"table {value['family']} {value['table']}"


def _devices(dev: str | list[str]) -> tuple[str, ...]:
    """Return the devices of a chain of the family netdev; nft prints a single one as a string."""
    return (dev,) if isinstance(dev, str) else tuple(dev)


def _quotes(text: str) -> dict[tuple[str, str, int], str]:
    """Return the rules in nft's syntax, by table, chain and handle."""
    quotes, table, chain = {}, "", ""
    for line in text.splitlines():
        if match := re.match(r"(table \w+ \S+) \{", line):
            table = match[1]
        elif match := re.match(r"\tchain (\S+) \{", line):
            chain = match[1]
        elif match := re.match(r"\t\t(.+) # handle (\d+)$", line):
            quotes[table, chain, int(match[2])] = " ".join(match[1].split())
    return quotes


def _rules(expressions: list[Json], quote: str, sets: Sets) -> Iterator[Rule]:
    """Yield a rule or, if it looks a verdict up in a map, a rule for each key of the map."""
    conditions: list[Condition] = []
    for expression in expressions:
        ((kind, value),) = expression.items()
        if kind == "match":
            conditions += _match(value, sets)
        elif kind == "vmap":
            for key, verdict in _elements(value["data"], sets) or []:
                with_key = [*conditions, *_read(value["key"], [key], negated=False)]
                ((word, target),) = verdict.items()
                yield _rule(quote, with_key, word, target)
            return
        elif kind in ("accept", "drop", "reject", "return", "jump", "goto"):
            yield _rule(quote, conditions, kind, value)
            return
        elif kind in _NAT:
            yield _nat(quote, conditions, kind, value or {})
            return
        elif kind == "xt" and (value or {}).get("name") in _XT_TARGETS:
            yield _rule(quote, conditions, value["name"].lower(), None)
            return
        elif kind in _CONDITIONAL or (kind == "xt" and (value or {}).get("type") != "target"):
            conditions.append(_UNCLEAR)


def _rule(quote: str, conditions: list[Condition], verdict: str, value: Json | None) -> Rule:
    return Rule(quote, tuple(conditions), verdict, (value or {}).get("target", ""))


def _nat(quote: str, conditions: list[Condition], verdict: str, value: Json) -> Rule:
    """Return a rule that rewrites an address; whether a map has the packet isn't known."""
    address, port = value.get("addr", ""), value.get("port")
    if not isinstance(address, str):
        return Rule(quote, (*conditions, _UNCLEAR), verdict)
    return Rule(quote, tuple(conditions), verdict, f"{address}:{port}" if port else address)


def _match(match: Json, sets: Sets) -> list[Condition]:
    """Return the conditions of a match expression."""
    values = _elements(match["right"], sets)
    if values is None or match["op"] not in ("==", "!=", "in"):
        values = []
    return _read(match["left"], values, negated=match["op"] == "!=")


def _elements(right: Any, sets: Sets) -> list[Any] | None:  # noqa: ANN401 - a value of JSON
    """Return the elements of a value, set or map; None if the named set isn't known."""
    if isinstance(right, str) and right.startswith("@"):
        return sets.get(right[1:])
    if isinstance(right, dict) and "set" in right:
        right = right["set"]
    return right if isinstance(right, list) else [right]


def _read(left: Json, elements: list[Any], *, negated: bool) -> list[Condition]:
    """Return the conditions of a match: the header exists, and the field is one of `elements`."""
    ((kind, source),) = left.items()
    if not isinstance(source, dict):  # a part of a field, or several fields at once
        return [_UNCLEAR]
    if kind == "payload":
        header, key = source.get("protocol", kind), source.get("field")
    elif kind == "fib":
        header, key = kind, f"{_flags(source)} {source.get('result')}"
    else:
        header, key = kind, source.get("key")
    field = _FIELDS.get(f"{header} {key}")
    values = [_value(element) for element in elements]
    if field == "protocol":
        values = [PROTOCOLS.get(value, value) for value in values if value]
    condition = _UNCLEAR
    if field and values and None not in values:
        condition = Condition(field, tuple(map(str, values)), negated)
    if header in _TRANSPORTS:
        return [Condition("protocol", (_TRANSPORTS[header],)), condition]
    return [*_IMPLIED.get(header, ()), condition]


def _flags(fib: Json) -> str:
    """Return the flags of a fib expression, such as `saddr . iif`; nft prints one as a string."""
    flags = fib.get("flags", ())
    return flags if isinstance(flags, str) else " . ".join(flags)


def _value(element: Any) -> str | None:  # noqa: ANN401
    """Return a value in the notation of Condition; None if cablectl doesn't understand it."""
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
