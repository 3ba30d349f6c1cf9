"""The guard: an nftables table that drops a cable's clear packets, both incoming and outgoing.

Trap policies keep clear text from leaving, as long as they are installed. The guard still works
after somebody flushed them, and it drops clear packets that others send to the overlay, which a
VXLAN device would accept. A rule matches only the cable's traffic: the overlay's UDP port and VNI,
the peer's GRE with the overlay's key, or the pairs of subnets. In nft(8), `meta secpath` is true
for a packet that arrived by an SA, `rt ipsec` for a packet that will leave by an SA.
"""

import zlib
from collections.abc import Iterator
from typing import Any

from msgspec import Struct

from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode

PRIORITY = -10  # before the filters of other programs (0), which then never see such a packet
FAMILY = "inet"  # the tables' family: IPv4 and IPv6
MARK = "cablectl "  # the beginning of each rule's comment
_HOOKS = {"in": "input", "out": "output", "forward": "forward"}
_MISSING = {"in": "meta secpath missing", "out": "rt ipsec missing"}


class Rule(Struct, frozen=True):
    """A rule: `drops` is the direction ("in", "out") of the packets it drops, "" if it accepts.

    The mark is a checksum of repr(rules): with a renamed field, loaded guards would look changed.
    """

    chain: str
    match: str
    drops: str = ""

    def text(self, mark: str) -> str:
        """Return the rule in nft's syntax, with a comment that holds `mark`."""
        verdict = f"{_MISSING[self.drops]} counter drop" if self.drops else "accept"
        return f'{self.match} {verdict} comment "{self.comment(mark)}"'

    def comment(self, mark: str) -> str:
        """Return the comment that identifies the rule in a listing."""
        return f"{mark} {self.drops or 'accept'}"


class Guard(Struct, frozen=True):
    """A guard's table in the kernel: the rules' comments, and how many packets they dropped.

    A dormant table has no comments here, since the kernel skips its rules.
    """

    comments: tuple[str, ...]
    dropped_in: int = 0
    dropped_out: int = 0


def name(cable: Cable) -> str:
    """Return family and name of the cable's table; cables that share a device share the table."""
    return f"{FAMILY} cablectl_{cable.bundle}"


def load(cable: Cable) -> Argv:
    """Load the table in one transaction, which replaces an older table of that name."""
    table, mark = name(cable), _mark(cable)
    chains = ""
    for chain, hook in _HOOKS.items():
        rules = "".join(f" {rule.text(mark)};" for rule in rules_of(cable) if rule.chain == chain)
        if rules:
            chains += f" chain {chain} {{ type filter hook {hook} priority {PRIORITY};{rules} }};"
    # The first command makes the second succeed also where the kernel has no such table.
    return ("nft", f"table {table}; delete table {table}; table {table} {{{chains} }}")


def remove(cable: Cable) -> Argv:
    """Delete the table."""
    return ("nft", f"delete table {name(cable)}")


def made(cable: Cable) -> Guard:
    """Return the table that `load` makes, with no packet dropped yet."""
    mark = _mark(cable)
    comments: list[str] = []
    for chain in _HOOKS:  # nft lists the rules chain by chain
        comments += [rule.comment(mark) for rule in rules_of(cable) if rule.chain == chain]
    return Guard(comments=tuple(comments))


def is_intact(cable: Cable, installed: Guard | None) -> bool:
    """Tell whether the installed table has exactly the rules that `load` makes."""
    return installed is not None and installed.comments == made(cable).comments


def broken(cable: Cable, installed: Guard | None) -> bool:
    """Tell whether another program deleted or changed the table; False for another file's table."""
    if installed is None:
        return True
    if is_intact(cable, installed):
        return False
    marks = {comment.rpartition(" ")[0] for comment in installed.comments}
    if len(marks) != 1:
        return True
    (mark,) = marks
    # A complete table of another file has one mark of cablectl, other than this cable's mark.
    return mark == _mark(cable) or not mark.startswith(MARK)


def parse_tables(listing: dict[str, Any]) -> dict[str, Guard]:
    """Return the tables of `nft -j list ruleset`, by family and name; KeyError if it isn't that."""
    tables: dict[str, list[dict[str, Any]]] = {}
    for item in listing["nftables"]:
        for kind, value in item.items():
            table = value.get("name" if kind == "table" else "table")
            if table and value.get("family") == FAMILY:
                tables.setdefault(f"{FAMILY} {table}", []).append(item)
    return {name: parse({"nftables": items}) for name, items in tables.items()}


def parse(listing: dict[str, Any]) -> Guard:
    """Return the table of `nft -j list table`; KeyError if the listing is something else."""
    rules = [item["rule"] for item in listing["nftables"] if "rule" in item]
    tables = [item["table"] for item in listing["nftables"] if "table" in item]
    dormant = any("dormant" in table.get("flags", ()) for table in tables)

    def dropped(direction: str) -> int:
        return sum(
            expression["counter"]["packets"]
            for rule in rules
            for expression in rule["expr"]
            if "counter" in expression and rule.get("comment", "").endswith(f" {direction}")
        )

    comments = () if dormant else tuple(rule.get("comment", "") for rule in rules)
    return Guard(comments, dropped("in"), dropped("out"))


def _mark(cable: Cable) -> str:
    """Return the mark of the rules, a checksum: the rules of another file have another mark."""
    return f"{MARK}{zlib.crc32(repr(rules_of(cable)).encode()):08x}"


def rules_of(cable: Cable) -> tuple[Rule, ...]:
    """Return the rules of the cable's table; each chain's rules are in order."""
    return tuple(_subnets(cable) if cable.mode is Mode.TUNNEL else _between_gateways(cable))


def _between_gateways(cable: Cable) -> Iterator[Rule]:
    """Yield the rules of transport mode: drop the overlay or, without one, all but IKE and ESP."""
    for chain in ("in", "out"):
        hosts = _hosts(cable, chain)
        if cable.overlay:
            yield Rule(chain, overlay_of(cable.overlay).guard_match(cable, hosts), chain)
            continue
        ports = ", ".join(map(str, cable.ike_ports))
        yield Rule(chain, f"{hosts} meta l4proto esp")
        yield Rule(chain, f"{hosts} udp dport {{ {ports} }}")
        if cable.local.address.version == 6:
            yield Rule(chain, f"{hosts} icmpv6 type 133-137")  # neighbour discovery
        yield Rule(chain, hosts, chain)


def _hosts(cable: Cable, chain: str) -> str:
    """Return the match of packets from one gateway to the other, in the chain's direction."""
    local, remote = str(cable.local.address), str(cable.remote_host)
    return _between(cable, local, remote) if chain == "out" else _between(cable, remote, local)


def _subnets(cable: Cable) -> Iterator[Rule]:
    """Yield the rules of tunnel mode; the forward chain sees the packets of the subnets' hosts."""
    local = f"{{ {', '.join(map(str, cable.local.networks))} }}"
    remote = f"{{ {', '.join(map(str, cable.remote.networks))} }}"
    outgoing, incoming = _between(cable, local, remote), _between(cable, remote, local)
    yield Rule("in", incoming, "in")
    yield Rule("out", outgoing, "out")
    yield Rule("forward", incoming, "in")
    yield Rule("forward", outgoing, "out")


def _between(cable: Cable, source: str, target: str) -> str:
    family = "ip" if cable.local.address.version == 4 else "ip6"
    return f"{family} saddr {source} {family} daddr {target}"
