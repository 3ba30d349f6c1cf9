"""Which NAT rules rewrite a cable's packets.

In tunnel mode, a packet between the subnets whose address was rewritten has no IPsec policy any
more. Between the gateways, an end with another address is another end.
"""

from collections.abc import Iterable, Iterator
from ipaddress import ip_interface

from msgspec import Struct

from cablectl.linux.firewall import filters, traffic
from cablectl.linux.firewall.filters import Chain, Packet, Rule
from cablectl.linux.firewall.traffic import Devices, Sample
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode

OF_SOURCE = ("postrouting", "input")  # the hooks at which a rule gives another source
_NAT = ("masquerade", "snat", "dnat", "redirect", "netmap")


class Rewriting(Struct, frozen=True):
    """A rule that rewrites packets, or may do so; `breaks`: the cable then surely fails."""

    chain: Chain
    rule: str
    samples: tuple[Sample, ...]
    breaks: bool

    @property
    def text(self) -> str:
        """What the rule does, for a person."""
        part = "source" if self.chain.hook in OF_SOURCE else "destination"
        names = ", ".join(dict.fromkeys(sample.name for sample in self.samples))
        verb = "rewrites" if self.breaks else "may rewrite"
        return f"{verb} the {part} of {names}: {self.chain.place}: {self.rule}"


def rewritings(chains: Iterable[Chain], cable: Cable, devices: Devices) -> tuple[Rewriting, ...]:
    """Return the rules that rewrite the cable's packets, each with these packets."""
    by_name = {(chain.table, chain.name): chain for chain in chains}
    bases = [chain for chain in by_name.values() if chain.type == "nat" and chain.hook]
    found: dict[tuple[Chain, str, bool], list[Sample]] = {}
    if bases:
        for sample, harms in _samples(cable, devices):
            for chain, rule, sure in _of_sample(bases, by_name, sample, devices):
                found.setdefault((chain, rule, sure and harms), []).append(sample)
    return tuple(
        Rewriting(chain, rule, tuple(samples), breaks)
        for (chain, rule, breaks), samples in found.items()
    )


def _samples(cable: Cable, devices: Devices) -> Iterator[tuple[Sample, bool]]:
    """Yield the cable's packets, and whether the cable fails if NAT rewrites them."""
    for exchange in traffic.between_gateways(cable, devices):
        yield exchange.incoming, True
        yield exchange.outgoing, True
    for exchange in traffic.between_subnets(cable, devices):
        yield exchange.incoming, False
        yield exchange.outgoing, cable.mode is Mode.TUNNEL


def _of_sample(
    bases: list[Chain],
    by_name: dict[tuple[str, str], Chain],
    sample: Sample,
    devices: Devices,
) -> Iterator[tuple[Chain, str, bool]]:
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
                yield chain, rule.text, sure and keeps is False
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
