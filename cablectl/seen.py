"""Which cables this host has, and what is seen of them: read-only, as `host` reads one of a file.

They are known by the names of pluto's connections, and by the secrets that connect writes: a pluto
that was started anew has forgotten its connections.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path

from msgspec.structs import replace

from cablectl import host, pluto, probe, secret, traces
from cablectl.cable import Cable, Connection
from cablectl.errors import CablectlError, HostNotReadyError
from cablectl.model import CABLE
from cablectl.status import CableState, Report, Verdict, state

INTERVAL = 2  # seconds between two looks


def report_of(cable: Cable) -> Report:
    """Return the state of one cable; HostNotReadyError where it can't be read."""
    return _report([_state(cable)])


def report_of_all() -> Report:
    """Return the state of every cable of this host; HostNotReadyError where none can be known."""
    host.refuse_others_than_root()
    host.libreswan_version()
    status = host.pluto_status()
    found = pluto.cables(status.connections) if status else {}
    forgotten = secrets() - {name.removeprefix(CABLE).replace(".", "-") for name in found}
    if not (status or forgotten):
        raise HostNotReadyError(
            "pluto isn't running, so this host's cables can't be told",
            hint="start it, or name the cable's file",
        )
    devices = links() if found else {}
    why = "pluto has none of its connections" if status else "pluto isn't running"
    states = [_traced(name, connections, devices) for name, connections in found.items()]
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


def _traced(name: str, connections: tuple[Connection, ...], links: traces.Links) -> CableState:
    cable = traces.cable(name, connections, links)
    if cable is None:
        why = "its connections aren't such as cablectl makes, or not all are there"
        return state.unknown(name, Verdict.FOREIGN, why)
    # Which algorithms a file asks for leaves no trace to compare with.
    facts = replace(host.facts(cable), algorithms=None)
    return state.of(cable, facts, time.time())


def _state(cable: Cable) -> CableState:
    return state.of(cable, host.facts(cable), time.time())


def links() -> traces.Links:
    """Return all devices by name."""
    listed = probe.json("ip", "-N", "-d", "-j", "address")
    return {link["ifname"]: host.link_of(link) for link in listed if "ifname" in link}


def secrets() -> frozenset[str]:
    """Return what tells the cables apart that have a secret here."""
    try:
        return secret.ids(file.name for file in Path(secret.DIRECTORY).iterdir())
    except OSError:
        return frozenset()
