"""All checks, in the order in which one cause hides the next: the first failure comes first."""

from collections.abc import Iterator

from cablectl.cable import Cable
from cablectl.doctor import Finding, State, host, network, packets
from cablectl.doctor import state as cables
from cablectl.doctor.evidence import Ends, Host
from cablectl.status import CableState
from cablectl.status import state as status


def of_host(seen: Host) -> tuple[Finding, ...]:
    """Return what there is to find without a file."""
    return (
        *_of_ipsec(seen, None),
        *network.ports(seen, None),
        *packets.firewall(seen, None, None),
        *_of_surroundings(seen, None),
    )


def of_cable(seen: Host, cable: Cable, ends: Ends) -> tuple[Finding, ...]:
    """Return what there is to find of a file's cable."""
    found = tuple(_of_cable(seen, cable, ends))
    # What connect refuses mostly has a check of its own, which says more.
    if not any(each.state is State.FAIL for each in found):
        found = (*found, *cables.rest(cable, ends))
    return found


def _of_cable(seen: Host, cable: Cable, ends: Ends) -> Iterator[Finding]:
    there = _state(cable, ends, seen.time)
    yield from _of_ipsec(seen, cable)
    yield from network.address(cable, ends)
    yield from network.route(cable, ends)
    yield from network.ports(seen, cable)
    yield from network.clear_text(seen, cable)
    yield from packets.firewall(seen, cable, ends)
    yield from network.peer(cable, ends)
    yield from cables.key(cable, ends)
    yield from cables.service(cable, ends)
    yield from cables.negotiation(ends)
    yield from cables.state(cable, ends, there)
    yield from cables.guard(ends, there)
    yield from network.mtu(cable, ends)
    yield from network.filters(cable, ends)
    yield from cables.traffic(cable, ends)
    yield from network.forwarding(cable, ends)
    yield from cables.offload(ends.offload)
    yield from _of_surroundings(seen, cable)


def _of_ipsec(seen: Host, cable: Cable | None) -> Iterator[Finding]:
    yield from host.root(seen)
    if cable is None or cable.connections:
        yield from host.libreswan(seen)
        yield from host.pluto(seen)
        yield from host.listening(seen, cable)
    yield from host.kernel(seen, cable)


def _of_surroundings(seen: Host, cable: Cable | None) -> Iterator[Finding]:
    yield from host.others(seen)
    yield from host.runs(seen)
    yield from host.fips(seen, cable)
    yield from host.clock(seen)


def _state(cable: Cable, ends: Ends, now: float) -> CableState | None:
    return status.of(cable, ends.facts, now) if ends.facts else None
