"""The MSS clamp: an nftables table that lowers the segment size that TCP agrees on.

Where "fragmentation needed" is dropped on the way, hosts behind the gateways don't learn that the
cable carries less than their own link. Their full segments are lost, and TCP stalls. So a SYN from
or to a remote subnet gets the largest segment that fits the cable as its MSS (RFC 9293, section
3.7.1). The kernel only lowers an MSS: `tcp option maxseg size set` leaves a smaller one (nft(8)).
"""

from collections.abc import Iterable, Iterator
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from msgspec import Struct

from cablectl.linux import mtu, nftables
from cablectl.linux.nftables import Chain, Json, Rule, Set, match, payload
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Clamp, Encapsulation

PREFIX = "cablectl-mss_"  # how the table's name begins; that of a guard begins with cablectl_
TCP_HEADER = 20  # bytes, without options (RFC 9293, section 3.1)
_PRIORITY = -150  # "mangle"
_SET = "remote"


class Table(Struct, frozen=True):
    """A table: the largest segment in bytes, 0 if the rules are others, and the remote subnets."""

    size: int
    subnets: frozenset[str] = frozenset()


CHANGED = Table(0)


def is_wanted(cable: Cable) -> bool:
    """Tell whether the cable has a clamp: if it carries the packets of remote subnets."""
    return cable.carries_subnets and cable.mss is not Clamp.OFF and bool(cable.remote.networks)


def name(cable: Cable) -> str:
    """Return family and name of the cable's table; cables that share a device share the table."""
    return nftables.full_name(f"{PREFIX}{cable.bundle}")


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
    subnets = table.subnets | (more.subnets if more else frozenset())
    return Table(table.size, frozenset(map(str, _collapsed([*map(ip_network, subnets)]))))


def covers(installed: Table, needed: Table, *, shared: bool) -> bool:
    """Tell whether an installed table lowers the MSS as far as needed, for the needed subnets.

    A `shared` table has the subnets of other peers, too.
    """
    extra = installed.subnets - needed.subnets
    return (
        0 < installed.size <= needed.size
        and all(_is_covered(subnet, installed.subnets) for subnet in needed.subnets)
        and (shared or not extra)
    )


def _is_covered(subnet: str, by: frozenset[str]) -> bool:
    """Tell whether a subnet or a network around it is in the set, where neighbours are one."""
    if subnet in by:
        return True
    network = ip_network(subnet)
    around = (network.supernet(new_prefix=length) for length in range(network.prefixlen))
    return any(str(each) in by for each in around)


def load(table: str, content: Table) -> Argv:
    """Load the table, by family and name, in one transaction, which replaces an older one."""
    return _table(table.partition(" ")[2], content).load()


def remove(table: str) -> Argv:
    """Delete the table, by family and name."""
    return nftables.remove(table.partition(" ")[2])


def parse(listing: Json) -> Table:
    """Return the table of `nft -j list table`, CHANGED if its rules aren't those of `load`."""
    try:
        found = _read(listing)
        expected = nftables.fingerprint(_table("", found))
        installed = nftables.parse(listing).fingerprint
    except (KeyError, TypeError, ValueError, IndexError):
        return CHANGED
    return found if installed == expected else CHANGED


def _table(name: str, content: Table) -> nftables.Table:
    """Return the table with both directions: what comes from a remote subnet, and what goes to one.

    The hooks see the packets of the gateway itself, too.
    """
    subnets = sorted(content.subnets)
    version = 6 if ":" in subnets[0] else 4
    family = "ip" if version == 4 else "ip6"
    flags = {"&": [payload("tcp", "flags"), "syn"]}
    option = {"tcp option": {"name": "maxseg", "field": "size"}}
    clamp = match(flags, "syn"), {"mangle": {"key": option, "value": content.size}}

    def chain(name: str, hook: str, field: str) -> Chain:
        rule = Rule((match(payload(family, field), f"@{_SET}"), *clamp), name)
        return Chain(name, (rule,), hook, _PRIORITY)

    chains = chain("in", "prerouting", "saddr"), chain("out", "postrouting", "daddr")
    return nftables.Table(name, (Set(_SET, version, tuple(subnets)),), chains)


def _read(listing: Json) -> Table:
    """Return size and subnets of a listing; an exception if it has another form."""
    items = [entry for item in listing["nftables"] for entry in item.items()]
    (elements,) = (value["elem"] for kind, value in items if kind == "set")
    sizes = {
        part["mangle"]["value"]
        for kind, value in items
        if kind == "rule"
        for part in value["expr"]
        if "mangle" in part
    }
    (size,) = sizes
    return Table(int(size), frozenset(map(nftables.network, elements)))


def _collapsed(networks: list[Json]) -> Iterator[IPv4Network | IPv6Network]:
    """Yield as few networks as cover the same addresses."""
    yield from collapse_addresses(networks)
