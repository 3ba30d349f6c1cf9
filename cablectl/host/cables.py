"""The cables of this host and their state, read-only.

A cable is found by the names of pluto's connections, or by the secrets file that connect wrote:
pluto forgets its connections when it is started again.
"""

import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.facts import traces
from cablectl.facts.host_facts import Algorithms
from cablectl.host import (
    daemon,
    devices,
    health_state,
    ipsec_state,
    privilege,
    reading,
    rotation_state,
    routing,
)
from cablectl.libreswan import pluto
from cablectl.model.cable import Cable, cable_id
from cablectl.model.connection import Connection
from cablectl.model.rotation import RotationPhase
from cablectl.model.wishes import CABLE, Clamp, Routes
from cablectl.status import state
from cablectl.status.health import with_health
from cablectl.status.report import CableState, StatusReport, Verdict

INTERVAL = 2  # seconds between two reports


def report_of(cables: tuple[Cable, ...]) -> StatusReport:
    """Return the state of a file's cables; HostNotReadyError if it can't be read."""
    all_facts, now = reading.facts_of(cables), time.time()
    phases = {each.cable.id: each.phase for each in rotation_state.standings(cables)}
    states = [state.of(cable, facts, now) for cable, facts in zip(cables, all_facts, strict=True)]
    return _report(
        [
            replace(of_cable, rotation=_phase(phases.get(cable.id)))
            for cable, of_cable in zip(cables, states, strict=True)
        ]
    )


def _phase(found: RotationPhase | None) -> RotationPhase | None:
    return None if found is RotationPhase.NONE else found


def report_of_all() -> StatusReport:
    """Return the state of every cable of this host; HostNotReadyError if none can be found."""
    privilege.refuse_others_than_root()
    daemon.libreswan_version()
    status = daemon.pluto_status()
    found = pluto.cables(status.connections) if status else {}
    forgotten = daemon.marked_cables() - set(map(cable_id, found))
    if not (status or forgotten):
        raise HostNotReadyError(
            "pluto isn't running, so cables can't be listed",
            hint="sudo systemctl start ipsec, or give the cable's file",
        )
    links = devices.links() if found else {}
    versions = {first.local.network.version for first, *_ in found.values()}
    routes: dict[str, Routes] = {}
    for version in sorted(versions):
        routes |= routing.routes_by_device(version)
    why = "no connection of the cable is loaded" if status else "pluto isn't running"
    states = list(_traced(found, links, routes))
    states += [state.unknown(f"{CABLE}{name}", Verdict.DOWN, why) for name in forgotten]
    return _report(states)


def again_and_again(read: Callable[[], StatusReport]) -> Iterator[StatusReport | CablectlError]:
    """Yield a report every two seconds, with rates from the second report on.

    An error of the first report is raised. A later error is yielded: while the host is changed, it
    can't always be read.
    """
    before = read()
    yield before
    while True:
        time.sleep(INTERVAL)
        try:
            now = read()
        except CablectlError as error:
            yield error
            continue
        yield state.rated(before, now)
        before = now


def _report(states: list[CableState]) -> StatusReport:
    now = time.time()
    healths, repairs = health_state.read(now), health_state.repairs()

    def watched(cable: CableState) -> CableState:
        id_ = cable_id(cable.cable)
        return replace(with_health(cable, healths.get(id_)), repairs=repairs.get(id_))

    return StatusReport(
        time=now,
        cables=tuple(map(watched, sorted(states, key=lambda cable: cable.cable))),
        xfrm_errors=ipsec_state.xfrm_errors(),
    )


def _traced(
    found: dict[str, tuple[Connection, ...]], links: traces.Links, routes: dict[str, Routes]
) -> Iterator[CableState]:
    """Yield the states of these cables; facts of cables that one file may have are read once."""
    cables_of_a_file: dict[tuple[object, ...], list[Cable]] = {}
    for name, connections in found.items():
        cable = traces.cable(name, connections, links, routes)
        if cable is None:
            why = "its connections aren't such as cablectl makes, or some of them are missing"
            yield state.unknown(name, Verdict.FOREIGN, why)
        else:
            local, settings = (
                cable.local,
                (cable.mode, cable.overlay, cable.vtep_network, cable.routes),
            )
            key = (local.address, local.networks, *settings)
            cables_of_a_file.setdefault(key, []).append(cable)
    for cables in cables_of_a_file.values():
        all_facts, now = reading.facts_of(tuple(cables)), time.time()
        for cable, facts in zip(cables, all_facts, strict=True):
            # The algorithms and the MSS that the file asks for leave no trace to compare with.
            asked = facts.mss.size if facts.mss and facts.mss.size else Clamp.OFF
            facts = replace(facts, algorithms=Algorithms())
            yield state.of(replace(cable, mss=asked), facts, now)
