"""The guard: an nftables table that lets nothing of a cable in or out without IPsec.

Trap policies keep clear text from leaving while they stand; this stands when somebody flushes them,
and it keeps out what others send to the overlay in clear text, which a VXLAN's device would take.
A rule matches nothing but the cable's own: the overlay's port with its VNI, the peer's GRE with its
key, the pairs of subnets. `meta secpath` tells a packet that came in by an SA, `rt ipsec` one that
will leave by one (nft(8)).
"""

import zlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode

PRIORITY = -10  # before the filters of others, so that theirs never see such a packet
FAMILY = "inet"  # of the tables: IPv4 and IPv6
MARK = "cablectl "  # begins each rule's comment
_HOOKS = {"in": "input", "out": "output", "forward": "forward"}
_MISSING = {"in": "meta secpath missing", "out": "rt ipsec missing"}


class Rule(Struct, frozen=True):
    """What a rule of a chain matches; `drops` is which way the packets go that it drops, if any."""

    chain: str
    match: str
    drops: str = ""

    def text(self, mark: str) -> str:
        """Return the rule as nft takes it; its comment tells whose it is."""
        verdict = f"{_MISSING[self.drops]} counter drop" if self.drops else "accept"
        return f'{self.match} {verdict} comment "{self.comment(mark)}"'

    def comment(self, mark: str) -> str:
        """Return what tells the rule in a listing."""
        return f"{mark} {self.drops or 'accept'}"


class Guard(Struct, frozen=True):
    """A cable's table as the kernel has it: its rules' comments, and how many packets they dropped.

    One that is dormant has no rules that count.
    """

    comments: tuple[str, ...]
    dropped_in: int = 0
    dropped_out: int = 0


def name(cable: Cable) -> str:
    """Return what nft calls the table of the cable, or of all that share its device."""
    return f"{FAMILY} cablectl_{cable.bundle}"


def load(cable: Cable) -> Argv:
    """Put the table into the kernel, whole or not at all, in place of one that isn't whole."""
    table, mark, rules = name(cable), _mark(cable), rules_of(cable)
    chains = "".join(
        f" chain {chain} {{ type filter hook {hook} priority {PRIORITY};"
        + "".join(f" {rule.text(mark)};" for rule in rules if rule.chain == chain)
        + " };"
        for chain, hook in _HOOKS.items()
        if any(rule.chain == chain for rule in rules)
    )
    return ("nft", f"table {table}; delete table {table}; table {table} {{{chains} }}")


def remove(cable: Cable) -> Argv:
    """Take the table away."""
    return ("nft", f"delete table {name(cable)}")


def made(cable: Cable) -> Guard:
    """Return the table as `load` makes it."""
    mark = _mark(cable)
    rules = (
        rule.comment(mark) for chain in _HOOKS for rule in rules_of(cable) if rule.chain == chain
    )
    return Guard(comments=tuple(rules))


def stands(cable: Cable, there: Guard | None) -> bool:
    """Tell whether the table is there, with all its rules and no others."""
    return there is not None and there.comments == made(cable).comments


def broken(cable: Cable, there: Guard | None) -> bool:
    """Tell whether somebody else had a hand in it: it is neither whole nor that of another file."""
    if there is None or stands(cable, there):
        return there is None
    marks = {comment.rpartition(" ")[0] for comment in there.comments}
    return len(marks) != 1 or marks == {_mark(cable)} or not marks.pop().startswith(MARK)


def parse_tables(listing: dict[str, Any]) -> dict[str, Guard]:
    """Return what `nft -j list ruleset` says, by the names of the tables."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for each in listing["nftables"]:
        for kind, value in each.items():
            table = value.get("name" if kind == "table" else "table")
            if table and value.get("family") == FAMILY:
                tables.setdefault(f"{FAMILY} {table}", []).append(each)
    return {name: parse({"nftables": objects}) for name, objects in tables.items()}


def parse(listing: dict[str, Any]) -> Guard:
    """Return what `nft -j list table` says."""
    objects = [item for each in listing["nftables"] for item in each.items()]
    rules = [value for kind, value in objects if kind == "rule"]
    dormant = any("dormant" in value.get("flags", ()) for kind, value in objects if kind == "table")

    def dropped(way: str) -> int:
        return sum(
            expression["counter"]["packets"]
            for rule in rules
            for expression in rule["expr"]
            if "counter" in expression and rule.get("comment", "").endswith(f" {way}")
        )

    comments = () if dormant else tuple(rule.get("comment", "") for rule in rules)
    return Guard(comments, dropped("in"), dropped("out"))


def _mark(cable: Cable) -> str:
    """Return what tells these rules from those of a file that said something else."""
    return f"{MARK}{zlib.crc32(repr(rules_of(cable)).encode()):08x}"


def rules_of(cable: Cable) -> tuple[Rule, ...]:
    """Return the rules of the cable's table."""
    return tuple(_subnets(cable) if cable.mode is Mode.TUNNEL else _between_gateways(cable))


def _between_gateways(cable: Cable) -> Iterator[Rule]:
    for chain in ("in", "out"):
        hosts = _hosts(cable, chain)
        if cable.overlay:
            yield Rule(chain, overlay_of(cable.overlay).guard_match(cable, hosts), chain)
            continue
        yield Rule(chain, f"{hosts} meta l4proto esp")
        ports = ", ".join(map(str, cable.ike_ports))
        yield Rule(chain, f"{hosts} udp dport {{ {ports} }}")
        if cable.local.address.version == 6:
            yield Rule(chain, f"{hosts} icmpv6 type 133-137")  # neighbour discovery
        yield Rule(chain, hosts, chain)


def _hosts(cable: Cable, chain: str) -> str:
    ends = (cable.local.address, cable.remote_host)
    source, target = ends if chain == "out" else ends[::-1]
    family = "ip" if source.version == 4 else "ip6"
    return f"{family} saddr {source} {family} daddr {target}"


def _subnets(cable: Cable) -> Iterator[Rule]:
    family = "ip" if cable.local.address.version == 4 else "ip6"
    ours, theirs = (
        f"{{ {', '.join(map(str, endpoint.networks))} }}"
        for endpoint in (cable.local, cable.remote)
    )
    out = f"{family} saddr {ours} {family} daddr {theirs}"
    into = f"{family} saddr {theirs} {family} daddr {ours}"
    yield Rule("in", into, "in")
    yield Rule("out", out, "out")
    yield Rule("forward", into, "in")
    yield Rule("forward", out, "out")
