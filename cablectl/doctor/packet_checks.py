"""Checks of the packet filters: which rules of others drop or rewrite the cable's packets."""

from collections.abc import Iterable, Iterator

from cablectl.doctor.evidence import CableEvidence, HostEvidence
from cablectl.doctor.finding import Finding, FindingState, ok
from cablectl.linux.firewall import remedies, rewriting, traffic
from cablectl.linux.firewall.filters import Chain, Obstacle, in_flow, obstacles
from cablectl.linux.firewall.traffic import Devices, Exchange, Sample
from cablectl.model.cable import Cable


def check_firewall(
    host: HostEvidence, cable: Cable | None, evidence: CableEvidence | None
) -> Iterator[Finding]:
    """Check whether a rule or a policy of nftables or iptables may drop the cable's packets."""
    if host.firewall is None:
        return
    exchanges = traffic.of_any_cable()
    if cable and evidence:
        exchanges = traffic.of_cable(cable, _devices(host, evidence))
    affected: dict[Obstacle, list[Sample]] = {}
    for exchange in exchanges:
        for obstacle, sample in _obstacles(host.firewall, exchange):
            affected.setdefault(obstacle, []).append(sample)
    for obstacle, samples in affected.items():
        names = dict.fromkeys(sample.name for sample in samples)
        yield Finding(
            "firewall",
            FindingState.FAIL if obstacle.sure else FindingState.WARN,
            f"may drop {', '.join(names)}: {obstacle.chain.place}: {obstacle.rule}",
            remedies.acceptance(host.firewall, obstacle.chain, samples),
        )
    if not affected:
        count = sum(1 for chain in host.firewall if chain.hook and chain.type == "filter")
        text = f"{count} chains of other programs, and none drops packets of a cable"
        yield ok("firewall", text if count else "no packet filter besides cablectl's")


def check_nat(host: HostEvidence, cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check whether a NAT rule rewrites the cable's packets."""
    if host.firewall is None:
        return
    found = rewriting.rewritings(host.firewall, cable, _devices(host, evidence))
    for rule in found:
        yield Finding(
            "nat",
            FindingState.FAIL if rule.breaks else FindingState.WARN,
            rule.text,
            remedies.exemption(host.firewall, rule.chain, rule.samples),
        )
    if not found:
        yield ok("nat", "no NAT rule rewrites packets of the cable")


def _devices(host: HostEvidence, evidence: CableEvidence) -> Devices:
    outside = evidence.route.device
    link = host.links.get(outside)
    return Devices(outside, link.addresses if link else frozenset(), evidence.subnet_devices)


def _obstacles(chains: tuple[Chain, ...], exchange: Exchange) -> Iterator[tuple[Obstacle, Sample]]:
    """Yield what may drop the first packet of a flow, in both directions.

    It isn't sure if answers pass, and a flow can begin in the other direction.
    """
    samples = (exchange.incoming, exchange.outgoing)
    begins = (exchange.begins_here, exchange.begins_there)  # a flow that the sample answers
    first = [_met(chains, sample, answer=False) for sample in samples]
    for sample, answers, met, opposite in zip(samples, begins, first, first[::-1], strict=True):
        may_answer = answers and not any(obstacle.sure for obstacle in opposite)
        for_answers = _met(chains, sample, answer=True) if may_answer else met
        for obstacle in met:
            sure = obstacle.sure and obstacle in for_answers
            yield Obstacle(obstacle.chain, obstacle.rule, sure), sample


def _met(chains: Iterable[Chain], sample: Sample, *, answer: bool) -> list[Obstacle]:
    return list(obstacles(chains, sample.hooks, in_flow(sample.packet, answer=answer)))
