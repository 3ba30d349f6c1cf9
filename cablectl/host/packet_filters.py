"""Facts of the packet filters of other programs: nftables, iptables-nft and iptables-legacy."""

from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cablectl.facts.host_facts import Facts
from cablectl.host import devices, probe
from cablectl.linux.firewall import iptables, nft, traffic
from cablectl.linux.firewall.filters import Chain
from cablectl.model.cable import Cable

_LIST = ("nft", "-j", "list", "ruleset")
_LEGACY_TABLES = ("/proc/net/ip_tables_names", "/proc/net/ip6_tables_names")


def chains() -> tuple[Chain, ...]:
    """Return the chains of all filters; what can't be read is left out."""
    return _all(_listed())


def with_nat(cables: tuple[Cable, ...], facts: tuple[Facts, ...]) -> tuple[Facts, ...]:
    """Return the facts with the NAT rules, and the devices through which the packets pass.

    Where no NAT rules exist, this takes one process.
    """
    listing = _listed()
    by_nft = any(item.get("chain", {}).get("type") == "nat" for item in listing.get("nftables", ()))
    if not (by_nft or _has_legacy_nat()):
        return facts
    nat = _all(listing)
    addresses = {name: link.addresses for name, link in devices.links().items()}

    def of_cable(cable: Cable, outside: str) -> traffic.Devices:
        inside = {str(net): traffic.device_of(net, addresses) for net in cable.local.networks}
        return traffic.Devices(outside, addresses.get(outside, frozenset()), inside)

    return tuple(
        replace(of_this, nat=nat, devices=of_cable(cable, of_this.device))
        for cable, of_this in zip(cables, facts, strict=True)
    )


def _listed() -> dict[str, Any]:
    return probe.listed_by_nft(probe.if_any(*_LIST)) or {}


def _all(listing: dict[str, Any]) -> tuple[Chain, ...]:
    """Return the chains that nft has listed, and those of iptables."""
    found: tuple[Chain, ...] = ()
    iptables_nft_tables: list[str] = []
    for program, family in (("iptables", "ip"), ("ip6tables", "ip6")):
        saved = probe.if_any(f"{program}-save")
        if iptables.is_nftables(saved):
            found += iptables.parse(saved, program)
            iptables_nft_tables += [f"{family} {name}" for name in iptables.tables(saved)]
            saved = probe.if_any(f"{program}-legacy-save")
        found += iptables.parse(saved, f"{program}-legacy")
    text = probe.if_any("nft", "-a", "list", "ruleset") if listing else ""
    return found + nft.parse(listing, text, iptables_nft_tables)


def _has_legacy_nat() -> bool:
    """Tell whether iptables-legacy has a table nat, which nft doesn't list."""
    for path in _LEGACY_TABLES:
        try:
            if "nat" in Path(path).read_text(encoding="ascii").split():
                return True
        except OSError:  # the kernel has no such tables
            continue
    return False
