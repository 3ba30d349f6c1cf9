"""The MSS clamp: an nftables table that lowers the segment size that TCP agrees on.

Where "fragmentation needed" is dropped on the way, hosts behind the gateways don't learn that the
cable carries less than their own link. Their full segments are lost, and TCP stalls. So a SYN from
or to a remote subnet gets the largest segment that fits the cable as its MSS (RFC 9293, section
3.7.1). The kernel only lowers an MSS: `tcp option maxseg size set` leaves a smaller one (nft(8)).
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses
from typing import Any

from msgspec import Struct

from cablectl.linux import mtu
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Clamp, Encapsulation, Mode

FAMILY = "inet"
PREFIX = "cablectl_mss_"  # how the table's name begins
TCP_HEADER = 20  # bytes, without options (RFC 9293, section 3.1)
MAX_WORD = 60_000  # bytes; a word of a command may have 128 KiB (execve(2))
_PRIORITY = -150  # "mangle"
_SET = "remote"
_FIELDS = {"in": "saddr", "out": "daddr"}
_HOOKS = {"in": "prerouting", "out": "postrouting"}
_PROTOCOLS = {4: ("ip", "ipv4_addr"), 6: ("ip6", "ipv6_addr")}


class Table(Struct, frozen=True):
    """A table: the largest segment in bytes, 0 if the rules are others, and the remote subnets."""

    size: int
    subnets: frozenset[str] = frozenset()


CHANGED = Table(0)


def is_wanted(cable: Cable) -> bool:
    """Tell whether the cable has a clamp: if it carries the packets of remote subnets."""
    carries = cable.overlay is not None or cable.mode is Mode.TUNNEL
    return carries and cable.mss is not Clamp.OFF and bool(cable.remote.networks)


def name(cable: Cable) -> str:
    """Return family and name of the cable's table; cables that share a device share the table."""
    return f"{FAMILY} {PREFIX}{cable.bundle}"


def tunnel_mtu(cable: Cable, path_mtu: int) -> int:
    """Return the largest packet, in bytes, that ESP in tunnel mode carries over a path.

    In tunnel mode the inner IP header is part of the payload, and nothing is between it and ESP.
    """
    encapsulated = cable.encapsulation is not Encapsulation.NO
    version, esp = cable.local.address.version, cable.ipsec.esp
    return mtu.protected(path_mtu, 0, version=version, encapsulated=encapsulated, esp=esp)


def wanted(cables: Iterable[Cable], largest: int) -> Table | None:
    """Return the table of one cable, or of all cables of a device; None without a clamp.

    `largest` is the largest packet that the cable carries, in bytes.
    """
    clamped = [cable for cable in cables if is_wanted(cable)]
    if not clamped:
        return None
    networks = [network for cable in clamped for network in cable.remote.networks]
    asked, version = clamped[0].mss, networks[0].version
    size = asked if isinstance(asked, int) else largest - mtu.IP_HEADER[version] - TCP_HEADER
    return Table(size, frozenset(map(str, _collapsed(networks))))


def with_subnets(table: Table, more: Table | None) -> Table:
    """Return the table with the subnets of another one as well."""
    return Table(table.size, table.subnets | (more.subnets if more else frozenset()))


def covers(installed: Table, needed: Table, *, shared: bool) -> bool:
    """Tell whether an installed table lowers the MSS as far as needed, for the needed subnets.

    A `shared` table has the subnets of other peers, too.
    """
    extra = installed.subnets - needed.subnets
    return (
        0 < installed.size <= needed.size
        and needed.subnets <= installed.subnets
        and (shared or not extra)
    )


def load(table: str, content: Table) -> Argv:
    """Load the table in one transaction, which replaces an older one.

    nft joins its words by spaces, so a long list of subnets is several words.
    """
    subnets = sorted(content.subnets)
    protocol, kind = _PROTOCOLS[6 if ":" in subnets[0] else 4]
    chains = "".join(
        f" chain {chain} {{ type filter hook {hook} priority {_PRIORITY};"
        f" {protocol} {_FIELDS[chain]} @{_SET} tcp flags & syn == syn"
        f" tcp option maxseg size set {content.size}; }};"
        for chain, hook in _HOOKS.items()
    )
    # The first command makes the second succeed also where the kernel has no such table.
    begin = (
        f"table {table}; delete table {table}; table {table} {{"
        f" set {_SET} {{ type {kind}; flags interval; elements = {{"
    )
    first, *others = _words(subnets)
    if not others:
        return ("nft", f"{begin} {first} }}; }};{chains} }}")
    return ("nft", begin, first, *others, f"}}; }};{chains} }}")


def remove(table: str) -> Argv:
    """Delete the table."""
    return ("nft", f"delete table {table}")


def parse(listing: dict[str, Any]) -> Table:
    """Return the table of `nft -j list table`, CHANGED if its rules aren't those of `load`."""
    try:
        return _parse(listing)
    except (KeyError, TypeError, ValueError, IndexError):
        return CHANGED


def parse_tables(listing: dict[str, Any]) -> dict[str, Table]:
    """Return the tables of `nft -j list ruleset inet` that are called like ours, by their names."""
    items: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for item in listing["nftables"]:
        for kind, value in item.items():
            table = value.get("name" if kind == "table" else "table") or ""
            if table.startswith(PREFIX):
                items[f"{FAMILY} {table}"].append(item)
    return {name: parse({"nftables": own}) for name, own in items.items()}


def _parse(listing: dict[str, Any]) -> Table:
    items = [(kind, value) for item in listing["nftables"] for kind, value in item.items()]
    (table,) = (value for kind, value in items if kind == "table")
    (remote,) = (value for kind, value in items if kind == "set")
    chains = {value["name"]: _hook_of(value) for kind, value in items if kind == "chain"}
    rules = [(value["chain"], value["expr"]) for kind, value in items if kind == "rule"]
    known = {"metainfo", "table", "set", "chain", "rule"}
    size = rules[0][1][-1]["mangle"]["value"]
    version = 6 if remote["type"] == _PROTOCOLS[6][1] else 4
    as_loaded = (
        {kind for kind, _ in items} <= known
        and not table.get("flags")
        and (remote["name"], remote["type"]) == (_SET, _PROTOCOLS[version][1])
        and chains
        == {chain: ("filter", hook, _PRIORITY, "accept") for chain, hook in _HOOKS.items()}
        and rules == [(chain, _expressions(version, chain, size)) for chain in _HOOKS]
        and isinstance(size, int)
    )
    if not as_loaded:
        return CHANGED
    return Table(size, frozenset(map(_subnet, remote["elem"])))


def _hook_of(chain: dict[str, Any]) -> tuple[object, ...]:
    return chain["type"], chain["hook"], chain["prio"], chain["policy"]


def _expressions(version: int, chain: str, size: object) -> list[dict[str, Any]]:
    """Return the expressions of a rule, as nft 1.0.6 and 1.1.3 print them."""

    def field(protocol: str, name: str) -> dict[str, Any]:
        return {"payload": {"protocol": protocol, "field": name}}

    address = field(_PROTOCOLS[version][0], _FIELDS[chain])
    flags = {"&": [field("tcp", "flags"), "syn"]}
    option = {"tcp option": {"name": "maxseg", "field": "size"}}
    return [
        {"match": {"op": "==", "left": address, "right": f"@{_SET}"}},
        {"match": {"op": "==", "left": flags, "right": "syn"}},
        {"mangle": {"key": option, "value": size}},
    ]


def _subnet(element: Any) -> str:  # noqa: ANN401 - what nft prints
    """Return a network; nft prints a single address without its length."""
    if isinstance(element, str):
        return f"{element}/{128 if ':' in element else 32}"
    return f"{element['prefix']['addr']}/{element['prefix']['len']}"


def _collapsed(networks: list[Any]) -> Iterator[IPv4Network | IPv6Network]:
    """Yield as few networks as cover the same addresses."""
    yield from collapse_addresses(networks)


def _words(subnets: list[str]) -> list[str]:
    """Return the subnets as a list in nft's syntax, in words that aren't too long."""
    words, word = [], ""
    for i, subnet in enumerate(subnets):
        word += subnet if i == len(subnets) - 1 else f"{subnet},"
        if len(word) > MAX_WORD:
            words.append(word)
            word = ""
        elif i < len(subnets) - 1:
            word += " "
    return [*words, word] if word else words
