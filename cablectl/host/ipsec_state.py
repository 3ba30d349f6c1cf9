"""Facts of the kernel: IPsec policies, SAs, and the guards' nftables tables."""

from collections.abc import Set

from cablectl.host import probe
from cablectl.linux import guard, nftables, xfrm
from cablectl.linux.nftables import Installed
from cablectl.linux.xfrm import Policy, SecurityAssociation
from cablectl.model.cable import Cable

Xfrm = tuple[dict[Policy, int], tuple[SecurityAssociation, ...]]


def sas_of(cable: Cable) -> tuple[SecurityAssociation, ...]:
    """Return the cable's SAs with the bytes and packets that they have carried."""
    return xfrm.sas_of(cable.connections, *xfrm_state())


def guard_of(cable: Cable) -> Installed | None:
    """Return the cable's nftables table with its counters; None if it isn't loaded."""
    return guards_of((cable,)).get(guard.name(cable))


def guards_of(cables: tuple[Cable, ...]) -> dict[str, Installed]:
    """Return the nftables tables of the cables by name, without those that aren't loaded."""
    return guards_named({guard.name(cable) for cable in cables})


def guards_named(names: Set[str]) -> dict[str, Installed]:
    """Return the nftables tables of these families and names that are loaded."""
    if len(names) == 1:
        (name,) = names
        listing = probe.if_any("nft", "-j", "list", "table", *name.split())
        return {name: nftables.parse(probe.decoded(listing))} if listing else {}
    listing = probe.if_any("nft", "-j", "list", "ruleset", nftables.FAMILY)
    tables = nftables.parse_tables(probe.decoded(listing)) if listing else {}
    return {name: tables[name] for name in names & tables.keys()}


def xfrm_state() -> Xfrm:
    """Return all IPsec policies and SAs of the kernel."""
    policies = xfrm.parse_policies(probe.output("ip", "xfrm", "policy"))
    # -d: with offload; -s: with counters; nokeys: without the keys.
    listed = probe.output("ip", "-s", "-d", "xfrm", "state", "list", "nokeys")
    return policies, xfrm.parse_sas(listed)
