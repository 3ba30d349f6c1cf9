"""Sends packets through a cable, and returns what the kernel counted and a capture recorded."""

from cablectl.facts.host_facts import Facts
from cablectl.host import ipsec_state, reading
from cablectl.linux import guard, mtu
from cablectl.model.cable import Cable
from cablectl.verification import frames, packet_filter, proof
from cablectl.verification.observe.capture import Capture
from cablectl.verification.observe.echo import Echo
from cablectl.verification.proof import PAYLOAD, Answers, Evidence, Flow, Sas, Sizes

TRIES = 3  # a rekeying removes the old SAs with their counters, so the observation is repeated


def verify(cable: Cable, count: int, *, sizes: bool) -> Evidence:
    """Return the evidence of `count` packets; `sizes` also measures the largest packet.

    HostNotReadyError if this host can't send or capture; TimeLimitError if pluto doesn't answer.
    """
    facts = reading.facts(cable)
    flow = proof.flow(cable, facts)
    for _ in range(TRIES):
        evidence = _observe(cable, facts, flow, count, sizes=sizes)
        if not evidence.rekeyed:
            break
    return evidence


def _observe(cable: Cable, facts: Facts, flow: Flow, count: int, *, sizes: bool) -> Evidence:
    version, count_of = cable.local.address.version, frames.Count(cable)
    capture = Capture(flow.device, packet_filter.program(cable), count_of.add)
    with capture, Echo(version, flow.source, flow.target) as sender:
        drops_before, before = _guard_drops(cable), ipsec_state.sas_of(cable)
        answers = sender.several(count, PAYLOAD)
        after = ipsec_state.sas_of(cable)
        measured = _sizes(cable, facts, after, sender, answers) if sizes else None
        drops_after = _guard_drops(cable)
    return Evidence(
        cable=cable,
        flow=flow,
        requested=count,
        answers=answers,
        before=before,
        after=after,
        tally=count_of.tally({*before, *after}),
        lost=capture.lost + count_of.overflow,
        guard_drops=_increase(drops_before, drops_after),
        sizes=measured,
    )


def _increase(before: int | None, after: int | None) -> int | None:
    return None if before is None or after is None else after - before


def _guard_drops(cable: Cable) -> int | None:
    """Return how many incoming packets the guard has dropped; None without the cable's guard."""
    table = ipsec_state.guard_of(cable) if cable.guarded else None
    return guard.dropped(table)[0] if table and guard.is_intact(cable, table) else None


def _sizes(cable: Cable, facts: Facts, sas: Sas, sender: Echo, answers: Answers) -> Sizes:
    header = mtu.IP_HEADER[cable.local.address.version]
    computed, link = proof.largest(cable, facts, sas), facts.overlay.link
    found = 0
    if answers.answered:
        found = proof.sweep(
            lambda size: sender.passes(size - header),
            computed,
            proof.packet_size(cable, PAYLOAD),
            facts.path_mtu,
        )
    return Sizes(found=found, computed=computed, device=link.mtu if link else None)
