"""Which cables this host has, and what is seen of them: read-only, as `host` reads one of a file.

They are known by the names of pluto's connections, and by the secrets that connect writes: a pluto
that was started anew has forgotten its connections.
"""

import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.facts import traces
from cablectl.host import daemon, devices, privilege, reading
from cablectl.libreswan import pluto
from cablectl.model.cable import Cable, Connection, cable_id
from cablectl.model.wishes import CABLE
from cablectl.status import state
from cablectl.status.report import CableState, StatusReport, Verdict

INTERVAL = 2  # seconds between two looks


def report_of(cables: tuple[Cable, ...]) -> StatusReport:
    """Return the state of a file's cables; HostNotReadyError where it can't be read."""
    found, now = reading.facts_of(cables), time.time()
    return _report([state.of(*each, now) for each in zip(cables, found, strict=True)])


def report_of_all() -> StatusReport:
    """Return the state of every cable of this host; HostNotReadyError where none can be known."""
    privilege.refuse_others_than_root()
    daemon.libreswan_version()
    status = daemon.pluto_status()
    found = pluto.cables(status.connections) if status else {}
    forgotten = daemon.marked_cables() - set(map(cable_id, found))
    if not (status or forgotten):
        raise HostNotReadyError(
            "pluto isn't running, so this host's cables can't be told",
            hint="start it, or name the cable's file",
        )
    links = devices.links() if found else {}
    why = "no connection of the cable is loaded" if status else "pluto isn't running"
    states = list(_traced(found, links))
    states += [state.unknown(f"{CABLE}{each}", Verdict.DOWN, why) for each in forgotten]
    return _report(states)


def again_and_again(read: Callable[[], StatusReport]) -> Iterator[StatusReport | CablectlError]:
    """Yield a report every two seconds, with rates from the second on; the first error is raised.

    A later one is yielded: what is being changed can't always be read.
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
    cables = tuple(sorted(states, key=lambda each: each.cable))
    return StatusReport(time=time.time(), cables=cables)


def _traced(found: dict[str, tuple[Connection, ...]], links: traces.Links) -> Iterator[CableState]:
    """Yield the states of the cables of these names; those alike, as one file has them, at once."""
    alike: dict[tuple[object, ...], list[Cable]] = {}
    for name, connections in found.items():
        cable = traces.cable(name, connections, links)
        if cable is None:
            why = "its connections aren't such as cablectl makes, or not all are there"
            yield state.unknown(name, Verdict.FOREIGN, why)
        else:
            of_its_file = (cable.mode, cable.overlay, cable.vtep_network)
            key = (cable.local.address, cable.local.networks, *of_its_file)
            alike.setdefault(key, []).append(cable)
    for cables in alike.values():
        every, now = reading.facts_of(tuple(cables)), time.time()
        for cable, its_own in zip(cables, every, strict=True):
            # Which algorithms a file asks for leaves no trace to compare with.
            yield state.of(cable, replace(its_own, algorithms=None), now)
