"""A table of nftables as a value: the command that loads it, and what nft lists of it.

Expressions are those of nft's JSON (libnftables-json(5)): so a table can be compared with what nft
lists, whatever the release of nft. `text` writes an expression in nft's own syntax (nft(8)), since
a person reads the command.
"""

import json
import zlib
from collections.abc import Iterator
from ipaddress import ip_network
from typing import Any

from msgspec import Struct

from cablectl.model.argv import Argv

FAMILY = "inet"  # the tables' family: IPv4 and IPv6
PREFIX = "cablectl"  # how the names of cablectl's tables begin
MARK = "cablectl "  # the beginning of each rule's comment
COUNTER: dict[str, Any] = {"counter": None}
DROP: dict[str, Any] = {"drop": None}
ACCEPT: dict[str, Any] = {"accept": None}
NOTRACK: dict[str, Any] = {"notrack": None}  # so that no NAT rule sees the packet
LONGEST = 100_000  # characters of a word; Linux takes 131072 bytes (execve(2))
# /etc/protocols, from which nft takes the names, differs between releases of Debian.
_PROTOCOLS = {"ipencap": 4, "ipv4": 4, "ipv6": 41, "gre": 47, "esp": 50}
_DEVICES = ("iifname", "oifname")
_TYPES = {4: "ipv4_addr", 6: "ipv6_addr"}
_BASE = {"type": "", "hook": "", "prio": 0, "policy": ""}  # what a chain has, and without a hook
_KINDS = {"metainfo", "table", "set", "chain", "rule"}  # what a table of cablectl's has

Json = Any
Expression = dict[str, Json]


class Rule(Struct, frozen=True):
    """A rule; `role` is a word for its comment, such as the direction of what it drops."""

    expressions: tuple[Expression, ...]
    role: str = ""


class Chain(Struct, frozen=True):
    """A chain of type filter; without a `hook` no packet enters it."""

    name: str
    rules: tuple[Rule, ...]
    hook: str = ""
    priority: int = 0


class Set(Struct, frozen=True):
    """A named set of addresses and networks of one IP version."""

    name: str
    version: int
    elements: tuple[str, ...]

    @property
    def has_intervals(self) -> bool:
        """Whether nft needs the flag; without it the set is a hash of single addresses."""
        return any("/" in element for element in self.elements)


class Table(Struct, frozen=True):
    """A table of the family inet."""

    name: str
    sets: tuple[Set, ...]
    chains: tuple[Chain, ...]

    def load(self, before: "Installed | None" = None) -> Argv:
        """Load the table in one transaction, which replaces the one that was there before.

        Where that has the same sets and chains, they stay, and only their content is replaced:
        Linux 7 lets packets see a new set before it has its intervals (docs/adr/0003-guard.md).
        """
        table = f"table {full_name(self.name)}"
        mark = f"{MARK}{fingerprint(self)}"
        parts = [*map(_set, self.sets), *(_chain(chain, mark) for chain in self.chains)]
        if before and before.shape == _shape_of(self):
            emptied = [table, *(f"set {full_name(self.name)} {each.name}" for each in self.sets)]
            first = "; ".join(f"flush {each}" for each in emptied)
        else:  # the first command makes the second succeed also where there is no such table
            first = f"{table}; delete {table}"
        return ("nft", *_words(f"{first}; {table} {{ {' '.join(parts)} }}"))


def full_name(name: str) -> str:
    """Return family and name of a table of that name."""
    return f"{FAMILY} {name}"


def remove(name: str) -> Argv:
    """Delete a table of that name."""
    return ("nft", f"delete table {full_name(name)}")


class Installed(Struct, frozen=True):
    """A table in the kernel.

    `fingerprint` is computed from what nft lists; `mark` is the fingerprint in the comments, with
    which the table was loaded. `counted` is the number of packets by the rules' role.
    """

    fingerprint: str
    mark: str = ""
    counted: dict[str, int] = {}
    shape: str = ""  # a checksum of its sets and chains without their content, "" if unknown

    @property
    def unchanged(self) -> bool:
        """Whether the table is as it was loaded, by whatever file."""
        return self.fingerprint == self.mark != ""


def fingerprint(table: Table) -> str:
    """Return a checksum of sets, chains and rules; not of the name, comments' marks, counters."""
    sets = [[each.name, sorted(map(network, each.elements))] for each in table.sets]
    chains = [
        [
            *_base(chain),
            [[rule.role, [_normal(part) for part in rule.expressions]] for rule in chain.rules],
        ]
        for chain in table.chains
    ]
    return _checksum(sets, chains)


def made(table: Table) -> Installed:
    """Return the table as it is in the kernel right after `load`."""
    mark = fingerprint(table)
    return Installed(mark, mark, shape=_shape_of(table))


def _shape_of(table: Table) -> str:
    sets = [[each.name, _TYPES[each.version], each.has_intervals] for each in table.sets]
    return _checksum(sets, [_base(chain) for chain in table.chains])


def _base(chain: Chain) -> list[Json]:
    hooked = ("filter", chain.hook, chain.priority, "accept") if chain.hook else ("", "", 0, "")
    return [chain.name, *hooked]


def parse(listing: Json) -> Installed:
    """Return the table of `nft -j list table`; KeyError if the listing is something else."""
    items = [entry for item in listing["nftables"] for entry in item.items()]
    # The kernel skips the rules of a dormant table. nft 1.0.6 lists another word for this flag, and
    # cablectl's tables have no flag.
    if any(value.get("flags") for kind, value in items if kind == "table"):
        return Installed("")
    comments: dict[str, list[list[Json]]] = {}
    marks, counted = set[str](), dict[str, int]()
    for kind, value in items:
        if kind != "rule":
            continue
        mark, _, role = value.get("comment", "").removeprefix(MARK).rpartition(" ")
        marks.add(mark)
        comments.setdefault(value["chain"], []).append([role, list(map(_normal, value["expr"]))])
        counters = (part.get("counter") for part in value["expr"])
        packets = sum(counter["packets"] for counter in counters if isinstance(counter, dict))
        if packets:
            counted[role] = counted.get(role, 0) + packets
    found = [value for kind, value in items if kind == "set"]
    sets = [[each["name"], sorted(map(network, each.get("elem", ())))] for each in found]
    bases = [
        [value["name"], *(value.get(key, empty) for key, empty in _BASE.items())]
        for kind, value in items
        if kind == "chain"
    ]
    chains = [[*base, comments.get(base[0], [])] for base in bases]
    kinds = [[each["name"], each["type"], "interval" in each.get("flags", "")] for each in found]
    shape = _checksum(kinds, bases) if _KINDS.issuperset(kind for kind, _ in items) else ""
    mark = marks.pop() if len(marks) == 1 else ""
    return Installed(_checksum(sets, chains), mark, counted, shape)


def by_table(listing: Json) -> dict[str, Json]:
    """Return a listing for each of cablectl's tables in `nft -j list ruleset`, by full name."""
    tables: dict[str, list[Json]] = {}
    for item in listing["nftables"]:
        for kind, value in item.items():
            table = value.get("name" if kind == "table" else "table")
            if table and table.startswith(PREFIX) and value.get("family") == FAMILY:
                tables.setdefault(f"{FAMILY} {table}", []).append(item)
    return {name: {"nftables": items} for name, items in tables.items()}


def match(left: Expression, right: Json, op: str = "==") -> Expression:
    """Return a match of `left` with a value, a set's name such as @remote, or a list of values."""
    return {"match": {"op": op, "left": left, "right": right}}


def payload(protocol: str, field: str) -> Expression:
    """Return a field of a header."""
    return {"payload": {"protocol": protocol, "field": field}}


def raw(offset: int, length: int) -> Expression:
    """Return `length` bits that begin `offset` bits after the transport header's begin."""
    return {"payload": {"base": "th", "offset": offset, "len": length}}


def meta(key: str) -> Expression:
    """Return a property of a packet."""
    return {"meta": {"key": key}}


def text(expression: Expression) -> str:
    """Return an expression or a statement in nft's syntax."""
    ((kind, value),) = expression.items()
    match kind:
        case "match":
            return f"{text(value['left'])}{_operator(value)} {_right(value)}"
        case "payload" if "base" in value:
            return f"@{value['base']},{value['offset']},{value['len']}"
        case "payload":
            return f"{value['protocol']} {value['field']}"
        case "meta" if value["key"] in _DEVICES:
            return str(value["key"])
        case "meta" | "rt" | "ct":
            return f"{kind} {value['key']}"
        case "&" | "|":
            mask = value[1]
            return f"{text(value[0])} {kind} {mask if isinstance(mask, str) else f'{mask:#x}'}"
        case "mangle":
            to = value["value"]
            return f"{text(value['key'])} set {to if isinstance(to, int) else text(to)}"
        case "tcp option":
            return f"tcp option {value['name']} {value['field']}"
        case _:
            return kind


def _operator(match: Json) -> str:
    """Return the operator of a match; nft needs no == after a plain field."""
    return f" {match['op']}" if match["op"] == "!=" or "&" in match["left"] else ""


def _right(match: Json) -> str:
    match match["right"]:
        case bool(exists):
            return "exists" if exists else "missing"
        case {"set": elements}:
            return f"{{ {', '.join(_right({**match, 'right': each}) for each in elements)} }}"
        case str(device) if match["left"].get("meta", {}).get("key") in _DEVICES:
            return f'"{device}"'
        case value:
            return str(value)


def _words(command: str) -> Iterator[str]:
    """Yield a command in words of at most LONGEST characters; nft joins its words by spaces."""
    while len(command) > LONGEST:
        cut = command.rindex(" ", 0, LONGEST)
        yield command[:cut]
        command = command[cut + 1 :]
    yield command


def _set(each: Set) -> str:
    flags = " flags interval;" if each.has_intervals else ""
    elements = f" elements = {{ {', '.join(each.elements)} }};" if each.elements else ""
    return f"set {each.name} {{ type {_TYPES[each.version]};{flags}{elements} }};"


def _chain(chain: Chain, mark: str) -> str:
    base = f" type filter hook {chain.hook} priority {chain.priority};" if chain.hook else ""
    rules = "".join(
        f' {" ".join(map(text, rule.expressions))} comment "{mark} {rule.role}";'
        for rule in chain.rules
    )
    return f"chain {chain.name} {{{base}{rules} }};"


def _checksum(sets: list[Json], chains: list[Json]) -> str:
    canonical = json.dumps([sorted(sets), sorted(chains, key=lambda chain: str(chain[0]))])
    return f"{zlib.crc32(canonical.encode()):08x}"


def _normal(expression: Expression) -> str:
    """Return an expression as text, alike for what is loaded and for what nft lists."""
    match expression:
        case {"counter": _}:
            return "counter"
        case {
            "match": {"op": op, "left": {"meta": {"key": "l4proto"}} as left, "right": str(name)}
        }:
            value = [op, left, _PROTOCOLS.get(name, name)]
        case {"match": {"op": "in", "left": left, "right": right}}:
            value = ["==", left, right]
        case {"match": {"op": op, "left": left, "right": {"set": [*elements]}}}:
            value = [op, left, {"set": sorted(elements, key=str)}]
        case {"match": {"op": op, "left": left, "right": right}}:
            value = [op, left, right]
        case _:
            value = [expression]
    return json.dumps(value, sort_keys=True)


def network(element: Json) -> str:
    """Return an element of a set as a network; as JSON if it is something else."""
    match element:
        case {"prefix": {"addr": address, "len": length}}:
            text = f"{address}/{length}"
        case _:
            text = str(element)
    try:
        return str(ip_network(text))
    except ValueError:
        return json.dumps(element, sort_keys=True)
