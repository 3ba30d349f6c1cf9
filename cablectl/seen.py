"""Which cables this host has, and what is seen of them: read-only, as `host` reads one of a file.

They are known by the names of pluto's connections, and by the secrets that connect writes: a pluto
that was started anew has forgotten its connections.
"""

import time
from collections.abc import Callable, Iterator

from msgspec.structs import replace

from cablectl import host, pluto, traces
from cablectl.cable import Cable, Connection, cable_id
from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.model import CABLE
from cablectl.status import CableState, Report, Verdict, state

INTERVAL = 2  # seconds between two looks


def report_of(cables: tuple[Cable, ...]) -> Report:
    """Return the state of a file's cables; HostNotReadyError where it can't be read."""
    found, now = host.facts_of(cables), time.time()
    return _report([state.of(*each, now) for each in zip(cables, found, strict=True)])


def report_of_all() -> Report:
    """Return the state of every cable of this host; HostNotReadyError where none can be known."""
    host.refuse_others_than_root()
    host.libreswan_version()
    status = host.pluto_status()
    found = pluto.cables(status.connections) if status else {}
    forgotten = host.secrets() - set(map(cable_id, found))
    if not (status or forgotten):
        raise HostNotReadyError(
            "pluto isn't running, so this host's cables can't be told",
            hint="start it, or name the cable's file",
        )
    devices = host.links() if found else {}
    why = "pluto has none of its connections" if status else "pluto isn't running"
    states = list(_traced(found, devices))
    states += [state.unknown(f"{CABLE}{each}", Verdict.DOWN, why) for each in forgotten]
    return _report(states)


def again_and_again(read: Callable[[], Report]) -> Iterator[Report | CablectlError]:
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


def _report(states: list[CableState]) -> Report:
    cables = tuple(sorted(states, key=lambda each: each.cable))
    return Report(version=1, time=time.time(), cables=cables)


def _traced(
    found: dict[str, tuple[Connection, ...]], devices: traces.Links
) -> Iterator[CableState]:
    """Yield the states of the cables of these names; those alike, as one file has them, at once."""
    alike: dict[tuple[object, ...], list[Cable]] = {}
    for name, connections in found.items():
        cable = traces.cable(name, connections, devices)
        if cable is None:
            why = "its connections aren't such as cablectl makes, or not all are there"
            yield state.unknown(name, Verdict.FOREIGN, why)
        else:
            of_its_file = (cable.mode, cable.overlay, cable.vtep_network)
            key = (cable.local.address, cable.local.networks, *of_its_file)
            alike.setdefault(key, []).append(cable)
    for cables in alike.values():
        every, now = host.facts_of(tuple(cables)), time.time()
        for cable, its_own in zip(cables, every, strict=True):
            # Which algorithms a file asks for leaves no trace to compare with.
            yield state.of(cable, replace(its_own, algorithms=None), now)
