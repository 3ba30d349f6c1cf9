"""Which NAT rules rewrite a cable's packets.

In tunnel mode, a packet between the subnets with another source has no IPsec policy any more. The
guard drops it, and without a guard it leaves in clear text (measured, Linux 7.2). Between the
gateways, an end with another address is another end.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_interface

from msgspec import Struct

from cablectl.linux.firewall import filters, traffic
from cablectl.linux.firewall.filters import Chain, Packet, Rule
from cablectl.linux.firewall.traffic import Devices, Sample
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode

OF_SOURCE = ("postrouting", "input")  # the hooks at which a rule gives another source
_NAT = ("masquerade", "snat", "dnat", "redirect", "netmap")


class Rewriting(Struct, frozen=True):
    """A rule that rewrites packets or, unless `sure`, may do so."""

    chain: Chain
    rule: str
    samples: tuple[Sample, ...]
    harm: str  # what then happens to the packets; empty if the cable works
    sure: bool

    @property
    def breaks(self) -> bool:
        """Whether the cable surely fails."""
        return self.sure and bool(self.harm)

    @property
    def text(self) -> str:
        """What the rule does, for a person."""
        part = "source" if self.chain.hook in OF_SOURCE else "destination"
        names = ", ".join(dict.fromkeys(sample.name for sample in self.samples))
        verb = "rewrites" if self.sure else "may rewrite"
        harm = f", so {self.harm}" if self.harm else ""
        return f"{verb} the {part} of {names}{harm}: {self.chain.place}: {self.rule}"


def rewritings(chains: Iterable[Chain], cable: Cable, devices: Devices) -> tuple[Rewriting, ...]:
    """Return the rules that rewrite the cable's packets, each with these packets."""
    by_name = {(chain.table, chain.name): chain for chain in chains}
    bases = [chain for chain in by_name.values() if chain.type == "nat" and chain.hook]
    found: dict[tuple[Chain, str, str, bool], list[Sample]] = {}
    for exchange in traffic.of_cable(cable, devices) if bases else ():
        for sample in (exchange.incoming, exchange.outgoing):
            if sample.untracked:
                continue
            for chain, rule, sure in _of_sample(bases, by_name, sample, devices):
                key = (chain, rule.text, _harm(cable, sample, chain, rule), sure)
                found.setdefault(key, []).append(sample)
    return tuple(
        Rewriting(chain, rule, tuple(samples), harm, sure)
        for (chain, rule, harm, sure), samples in found.items()
    )


def _harm(cable: Cable, sample: Sample, chain: Chain, rule: Rule) -> str:
    """Return what happens to packets that a rule rewrites; empty if the cable works."""
    of_source = chain.hook in OF_SOURCE
    if not sample.forwarded:
        if cable.mode is Mode.NONE:
            return ""
        return "the peer sees another address" if of_source else "these packets go elsewhere"
    if cable.joins_subnets:
        lost = (
            "the guard drops these packets"
            if cable.guarded
            else "these packets leave in clear text"
        )
        return lost if sample.outgoing else ""
    # An overlay's device gives its own address, to which the peer sends answers by the cable.
    if sample.outgoing and rule.verdict == "snat" and not _is_inside(cable, rule.target):
        return "the answers don't come back by the cable"
    return ""


def _is_inside(cable: Cable, address: str) -> bool:
    """Tell whether the peer reaches an address of this end by the cable."""
    try:
        given = ip_address(address)
    except ValueError:  # a range, or an address with a port
        return True
    return given == cable.local_vtep.ip or any(given in net for net in cable.local.networks)


def _of_sample(
    bases: list[Chain],
    by_name: dict[tuple[str, str], Chain],
    sample: Sample,
    devices: Devices,
) -> Iterator[tuple[Chain, Rule, bool]]:
    """Yield the base chains and rules that rewrite a packet, and whether that is sure."""
    packet = filters.in_flow(sample.packet, answer=False)
    for chain in bases:
        if chain.hook not in sample.hooks or not chain.sees(packet):
            continue
        may_pass = False
        for outcome in filters.outcomes(chain, by_name, packet):
            rule, sure = outcome.rule, outcome.sure and not may_pass
            keeps = outcome.verdict not in _NAT or _keeps(chain, rule, packet, devices)
            if not keeps and (sure or filters.is_about(rule, packet, partly=True)):
                yield chain, rule, sure and keeps is False
                break
            may_pass = may_pass or keeps is True


def _keeps(chain: Chain, rule: Rule, packet: Packet, devices: Devices) -> bool | None:
    """Tell whether a rule gives a packet the address that it has; None if that isn't known."""
    part = "saddr" if chain.hook in OF_SOURCE else "daddr"
    network = packet[part]
    if network.num_addresses > 1:
        return False
    address = str(network.network_address)
    if rule.verdict != "masquerade":
        return rule.target == address
    if packet.get("oif") != devices.outside or not devices.addresses:
        return None
    given = [ip_interface(text).ip for text in devices.addresses]
    usable = {str(ip) for ip in given if ip.version == network.version and not ip.is_link_local}
    if address not in usable:
        return False
    return True if len(usable) == 1 else None  # the kernel takes the one of the next hop's network
