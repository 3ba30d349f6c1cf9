"""Runs all checks, causes before their consequences: the first failure is the one to fix."""

from collections.abc import Iterator

from cablectl.doctor import cable_checks, host_checks, network_checks, packet_checks, route_checks
from cablectl.doctor.evidence import CableEvidence, HostEvidence
from cablectl.doctor.finding import Finding, FindingState
from cablectl.model.cable import Cable
from cablectl.status import state
from cablectl.status.report import CableState


def check_host(host: HostEvidence) -> tuple[Finding, ...]:
    """Return the findings of the checks that need no file."""
    return (
        *_check_ipsec(host, None),
        *network_checks.check_ports(host, None),
        *packet_checks.check_firewall(host, None, None),
        *_check_surroundings(host, None),
    )


def check_cable(host: HostEvidence, cable: Cable, evidence: CableEvidence) -> tuple[Finding, ...]:
    """Return the findings of all checks, for one cable of a file."""
    findings = tuple(_check_cable(host, cable, evidence))
    # Another check usually explains better why connect would refuse.
    if not any(finding.state is FindingState.FAIL for finding in findings):
        findings = (*findings, *cable_checks.check_connect(cable, evidence))
    return findings


def _check_cable(host: HostEvidence, cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    cable_state = _state(cable, evidence, host.time)
    yield from network_checks.check_address(cable, evidence)
    yield from _check_ipsec(host, cable)
    yield from network_checks.check_route(cable, evidence)
    yield from route_checks.check_table(cable, evidence)
    yield from network_checks.check_ports(host, cable)
    yield from network_checks.check_clear_text(host, cable)
    yield from packet_checks.check_firewall(host, cable, evidence)
    yield from packet_checks.check_nat(host, cable, evidence)
    yield from network_checks.check_peer(cable, evidence)
    yield from cable_checks.check_key(cable, evidence)
    yield from cable_checks.check_certificates(host, evidence)
    yield from cable_checks.check_service(cable, evidence)
    yield from cable_checks.check_orientation(cable, evidence)
    yield from cable_checks.check_negotiation(host, evidence)
    yield from cable_checks.check_state(cable, evidence, cable_state)
    yield from cable_checks.check_guard(evidence, cable_state)
    yield from cable_checks.check_rotation(evidence)
    yield from network_checks.check_mtu(cable, evidence)
    yield from network_checks.check_rp_filter(cable, evidence)
    yield from cable_checks.check_traffic(cable, evidence)
    yield from network_checks.check_forwarding(cable, evidence)
    yield from cable_checks.check_offload(evidence.offload)
    yield from _check_surroundings(host, cable)


def _check_ipsec(host: HostEvidence, cable: Cable | None) -> Iterator[Finding]:
    yield from host_checks.check_root(host)
    if cable is None or cable.connections:
        yield from host_checks.check_libreswan(host)
        yield from host_checks.check_pluto(host)
        yield from host_checks.check_listening(host, cable)
    yield from host_checks.check_kernel(host, cable)


def _check_surroundings(host: HostEvidence, cable: Cable | None) -> Iterator[Finding]:
    yield from host_checks.check_others(host)
    yield from host_checks.check_runs(host)
    yield from host_checks.check_fips(host, cable)
    yield from host_checks.check_clock(host)


def _state(cable: Cable, evidence: CableEvidence, now: float) -> CableState | None:
    return state.of(cable, evidence.facts, now) if evidence.facts else None
