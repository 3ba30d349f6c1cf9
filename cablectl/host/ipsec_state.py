"""Facts of the kernel: IPsec policies, SAs, and the guards' nftables tables."""

from collections.abc import Iterable, Set
from pathlib import Path

from cablectl.host import probe
from cablectl.linux import guard, mss, nftables, xfrm
from cablectl.linux.nftables import Installed
from cablectl.linux.xfrm import Policy, SecurityAssociation
from cablectl.model.cable import Cable

TABLES = ("cablectl_", mss.PREFIX)  # how the names of a cable's tables begin, before its id
ERRORS = Path("/proc/net/xfrm_stat")
Xfrm = tuple[dict[Policy, int], tuple[SecurityAssociation, ...]]


def sas_of(cable: Cable) -> tuple[SecurityAssociation, ...]:
    """Return the cable's SAs with the bytes and packets that they have carried."""
    return xfrm.sas_of(cable.connections, *xfrm_state())


def guard_of(cable: Cable) -> Installed | None:
    """Return the cable's nftables table with its counters; None if it isn't loaded."""
    return guards_of((cable,)).get(guard.name(cable))


def is_guarded(cable: Cable) -> bool:
    """Tell whether the cable's complete nftables table is loaded."""
    return guard.is_intact(cable, guard_of(cable))


def tables_of(ids: Iterable[str]) -> tuple[str, ...]:
    """Return the family and name of each nftables table that cables with these ids have."""
    names = (nftables.full_name(f"{prefix}{cable}") for cable in ids for prefix in TABLES)
    return tuple(
        name for name in names if probe.if_any("nft", "-j", "list", "table", *name.split())
    )


def guards_of(cables: tuple[Cable, ...]) -> dict[str, Installed]:
    """Return the nftables tables of the cables by name, without those that aren't loaded."""
    return guards_named({guard.name(cable) for cable in cables})


def guards_named(names: Set[str]) -> dict[str, Installed]:
    """Return the nftables tables of these families and names that are loaded."""
    return {name: nftables.parse(listing) for name, listing in _listings(names).items()}


def clamps_of(cables: tuple[Cable, ...]) -> dict[str, mss.Table]:
    """Return the nftables tables that limit TCP's segments by name, without missing ones."""
    listings = _listings({mss.name(cable) for cable in cables})
    return {name: mss.parse(listing) for name, listing in listings.items()}


def _listings(names: Set[str]) -> dict[str, nftables.Json]:
    """Return what nft lists of each of these tables that is loaded; mostly nft runs once.

    A table that nft can't list in JSON has an empty listing, so it counts as changed.
    """
    if len(names) != 1:
        text = probe.if_any("nft", "-j", "list", "ruleset", nftables.FAMILY)
        listing = probe.listed_by_nft(text)
        if text and listing is None:  # one of the tables is the cause
            return {each: found for name in names for each, found in _listings({name}).items()}
        tables = nftables.by_table(listing) if listing else {}
        return {name: tables[name] for name in names & tables.keys()}
    (name,) = names
    text = probe.if_any("nft", "-j", "list", "table", *name.split())
    return {name: probe.listed_by_nft(text) or {"nftables": []}} if text else {}


def xfrm_state() -> Xfrm:
    """Return all IPsec policies and SAs of the kernel."""
    policies = xfrm.parse_policies(probe.output("ip", "xfrm", "policy"))
    # -d: with offload; -s: with counters; nokeys: without the keys.
    listed = probe.output("ip", "-s", "-d", "xfrm", "state", "list", "nokeys")
    return policies, xfrm.parse_sas(listed)


def xfrm_errors() -> dict[str, int] | None:
    """Return the kernel's error counters; None for a kernel without CONFIG_XFRM_STATISTICS."""
    try:
        return xfrm.parse_errors(ERRORS.read_text(encoding="ascii"))
    except OSError:
        return None
