"""Facts of the kernel: IPsec policies, SAs, and the guards' nftables tables."""

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
    listing = probe.if_any("nft", "-j", "list", "table", *guard.name(cable).split())
    return nftables.parse(probe.decoded(listing)) if listing else None


def guards_of(cables: tuple[Cable, ...]) -> dict[str, Installed]:
    """Return the nftables tables of the cables by name, without those that aren't loaded."""
    names = {guard.name(cable) for cable in cables}
    if len(names) == 1:
        table = guard_of(cables[0])
        return {guard.name(cables[0]): table} if table else {}
    listing = probe.if_any("nft", "-j", "list", "ruleset", nftables.FAMILY)
    tables = nftables.parse_tables(probe.decoded(listing)) if listing else {}
    return {name: tables[name] for name in names & tables.keys()}


def xfrm_state() -> Xfrm:
    """Return all IPsec policies and SAs of the kernel."""
    policies = xfrm.parse_policies(probe.output("ip", "xfrm", "policy"))
    # -d: with offload; -s: with counters; nokeys: without the keys.
    listed = probe.output("ip", "-s", "-d", "xfrm", "state", "list", "nokeys")
    return policies, xfrm.parse_sas(listed)
