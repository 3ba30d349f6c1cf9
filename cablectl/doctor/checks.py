"""All checks, in the order in which one cause hides the next: the first failure comes first."""

from collections.abc import Iterator

from cablectl.doctor import cable_checks, host_checks, network_checks, packet_checks
from cablectl.doctor.evidence import Ends, Host
from cablectl.doctor.finding import Finding, FindingState
from cablectl.model.cable import Cable
from cablectl.status import state
from cablectl.status.report import CableState


def of_host(seen: Host) -> tuple[Finding, ...]:
    """Return what there is to find without a file."""
    return (
        *_of_ipsec(seen, None),
        *network_checks.ports(seen, None),
        *packet_checks.firewall(seen, None, None),
        *_of_surroundings(seen, None),
    )


def of_cable(seen: Host, cable: Cable, ends: Ends) -> tuple[Finding, ...]:
    """Return what there is to find of a file's cable."""
    found = tuple(_of_cable(seen, cable, ends))
    # What connect refuses mostly has a check of its own, which says more.
    if not any(each.state is FindingState.FAIL for each in found):
        found = (*found, *cable_checks.rest(cable, ends))
    return found


def _of_cable(seen: Host, cable: Cable, ends: Ends) -> Iterator[Finding]:
    there = _state(cable, ends, seen.time)
    yield from _of_ipsec(seen, cable)
    yield from network_checks.address(cable, ends)
    yield from network_checks.route(cable, ends)
    yield from network_checks.ports(seen, cable)
    yield from network_checks.clear_text(seen, cable)
    yield from packet_checks.firewall(seen, cable, ends)
    yield from network_checks.peer(cable, ends)
    yield from cable_checks.key(cable, ends)
    yield from cable_checks.service(cable, ends)
    yield from cable_checks.negotiation(ends)
    yield from cable_checks.state(cable, ends, there)
    yield from cable_checks.guard(ends, there)
    yield from network_checks.mtu(cable, ends)
    yield from network_checks.filters(cable, ends)
    yield from cable_checks.traffic(cable, ends)
    yield from network_checks.forwarding(cable, ends)
    yield from cable_checks.offload(ends.offload)
    yield from _of_surroundings(seen, cable)


def _of_ipsec(seen: Host, cable: Cable | None) -> Iterator[Finding]:
    yield from host_checks.root(seen)
    if cable is None or cable.connections:
        yield from host_checks.libreswan(seen)
        yield from host_checks.pluto(seen)
        yield from host_checks.listening(seen, cable)
    yield from host_checks.kernel(seen, cable)


def _of_surroundings(seen: Host, cable: Cable | None) -> Iterator[Finding]:
    yield from host_checks.others(seen)
    yield from host_checks.runs(seen)
    yield from host_checks.fips(seen, cable)
    yield from host_checks.clock(seen)


def _state(cable: Cable, ends: Ends, now: float) -> CableState | None:
    return state.of(cable, ends.facts, now) if ends.facts else None
