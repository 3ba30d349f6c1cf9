"""Sends over a cable while the kernel counts and a capture runs, and returns what was seen."""

from cablectl.facts.host_facts import Facts
from cablectl.host import ipsec_state, reading
from cablectl.linux import guard, mtu
from cablectl.model.cable import Cable
from cablectl.verification import frames, proof
from cablectl.verification.observe.capture import Capture
from cablectl.verification.observe.echo import Echo
from cablectl.verification.proof import PAYLOAD, Answers, Evidence, Flow, Sas, Sizes

TRIES = 3  # a rekeying takes the counters of the old SAs away: then once more


def verify(cable: Cable, count: int, *, sizes: bool) -> Evidence:
    """Return what is seen of `count` packets; with `sizes` the largest that passes is found, too.

    HostNotReadyError if nothing can be sent or captured here, TimeLimitError if pluto doesn't
    answer.
    """
    facts = reading.facts(cable)
    flow = proof.flow(cable, facts)
    for _ in range(TRIES):
        evidence = _observe(cable, facts, flow, count, sizes=sizes)
        if not evidence.rekeyed:
            break
    return evidence


def _observe(cable: Cable, facts: Facts, flow: Flow, count: int, *, sizes: bool) -> Evidence:
    version = cable.local.address.version
    with Capture(flow.device) as capture, Echo(version, flow.source, flow.target) as sender:
        kept, before = _kept_in(cable), ipsec_state.sas_of(cable)
        answers = sender.several(count, PAYLOAD)
        after = ipsec_state.sas_of(cable)
        found = _sizes(cable, facts, after, sender, answers) if sizes else None
        now_kept = _kept_in(cable)
    return Evidence(
        cable=cable,
        flow=flow,
        asked=count,
        answers=answers,
        before=before,
        after=after,
        seen=frames.tally(cable, {*before, *after}, capture.captured),
        lost=capture.lost,
        kept_in=None if kept is None or now_kept is None else now_kept - kept,
        sizes=found,
    )


def _kept_in(cable: Cable) -> int | None:
    there = ipsec_state.guard_of(cable) if cable.guarded else None
    return there.dropped_in if there and guard.stands(cable, there) else None


def _sizes(cable: Cable, facts: Facts, sas: Sas, sender: Echo, answers: Answers) -> Sizes:
    header = mtu.IP_HEADER[cable.local.address.version]
    computed, link = proof.largest(cable, facts, sas), facts.overlay.link
    found = 0
    if answers.answered:
        found = proof.sweep(
            lambda size: sender.passes(size - header),
            computed,
            proof.inner(cable, PAYLOAD),
            facts.path_mtu,
        )
    return Sizes(found=found, computed=computed, device=link.mtu if link else None)
