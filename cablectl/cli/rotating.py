"""The loop of `cablectl rotate`: the next phase of each cable, as soon as the peer allows it.

Make before break: a path is used after an echo through it was answered, and removed after the peer
was seen to use the other one. Each phase is a plan, made under the lock from the host's state.
"""

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, repeat
from typing import NamedTuple

from cablectl.errors import CablectlError, ClientAwayError, HostNotReadyError
from cablectl.facts.host_facts import Facts
from cablectl.host import daemon, reading, rotation_state
from cablectl.host.rotation_state import Standing
from cablectl.libreswan.pluto import LoadedConnection
from cablectl.model.cable import Cable
from cablectl.model.rotation import RotationPhase, renewed, use, with_detour
from cablectl.plan import rotate_plan
from cablectl.plan.steps import Plan
from cablectl.run import execute
from cablectl.run.execute import Progress
from cablectl.verification.observe import way

POLL = 0.5  # seconds between two looks at what the peer does
ATTEMPT = 2.0  # seconds for a negotiation
RETRY = 3.0  # seconds between two negotiations of connections that aren't up
# Seconds for packets that are under way on a path that the peer no longer uses, and for SAs that
# may not change any more: the other end sends by a new SA at once.
SETTLE = 1.0

Group = list[Standing]
MakePlan = Callable[[tuple[Cable, ...], tuple[Facts, ...]], Plan]
Connections = dict[str, LoadedConnection]


class Part(NamedTuple):
    """A plan of a phase: of which path, made how, and in which phases it may still run."""

    path: Callable[[Standing], Cable]
    make: MakePlan
    phases: tuple[RotationPhase, ...]


def _cable(standing: Standing) -> Cable:
    return standing.cable


def _guarded(standing: Standing) -> Cable:
    return with_detour(standing.cable)


def _renewed(standing: Standing) -> Cable:
    return renewed(standing.cable)


def _detour(standing: Standing) -> Cable:
    return standing.detour


def _used(standing: Standing) -> Cable:
    return use(standing.detour)


def _with_its_rules(standing: Standing) -> Cable:
    """Return the detour with the rules it has: a run that was killed may have removed some."""
    return use(standing.detour, used=False)


NONE, PREPARED, MOVED, CHANGED, RETURNED, DONE = RotationPhase
# What makes a phase whole that was cut off.
ENSURE = {
    NONE: (),
    PREPARED: (
        Part(_cable, rotate_plan.made, (PREPARED,)),
        Part(_detour, rotate_plan.awaited, (PREPARED,)),
    ),
    MOVED: (
        Part(_cable, rotate_plan.guarded, (MOVED,)),
        Part(_detour, rotate_plan.made, (MOVED,)),
    ),
    CHANGED: (
        Part(_with_its_rules, rotate_plan.made, (CHANGED,)),
        Part(_cable, rotate_plan.awaited, (CHANGED,)),
    ),
    RETURNED: (Part(_cable, rotate_plan.made, (RETURNED,)),),
    DONE: (
        Part(_detour, rotate_plan.removed, (DONE,)),
        Part(_cable, rotate_plan.made, (DONE,)),
    ),
}
# What leads to the next phase; there, the same plan finds nothing to do.
ADVANCE = {
    NONE: (
        Part(_guarded, rotate_plan.made, (NONE, PREPARED)),
        Part(_detour, rotate_plan.awaited, (NONE, PREPARED)),
    ),
    PREPARED: (Part(_used, rotate_plan.made, (PREPARED, MOVED)),),
    MOVED: (Part(_renewed, rotate_plan.changed, (MOVED, CHANGED)),),
    CHANGED: (Part(_detour, rotate_plan.returned, (CHANGED, RETURNED)),),
    RETURNED: (
        Part(_detour, rotate_plan.removed, (RETURNED, DONE)),
        Part(_cable, rotate_plan.made, (DONE,)),  # its guard is as the file has it
    ),
    DONE: (),
}
NEGOTIATED = {PREPARED: _detour, CHANGED: _cable}  # the path that has to come up in a phase


class Rotation:
    """The rotation of some cables of a file; `run` returns when it ends, or the time is over."""

    def __init__(
        self,
        cables: tuple[Cable, ...],
        others: tuple[Cable, ...],
        progress: Progress,
        timeout: float,
    ) -> None:
        self._all = (*cables, *others)
        self._ids = frozenset(cable.id for cable in cables)
        self._progress, self._timeout = progress, timeout
        self._whole: set[tuple[str, RotationPhase]] = set()  # what this run made, or made whole
        self._tried_at = 0.0
        self.changed = False  # whether any command was run
        self.errors: dict[str, CablectlError] = {}  # by the cable's id
        self.phases: dict[str, RotationPhase] = {}  # likewise, as they are on this host

    def run(self) -> None:
        """Go on until every cable is done, or the time is over; put what fails into `errors`."""
        deadline = time.monotonic() + self._timeout
        while True:
            group = self._group()
            if self._go_on(group):
                deadline = time.monotonic() + self._timeout  # the peers get this time at each step
                continue
            waiting = [
                each
                for each in group
                if each.phase is not DONE and each.cable.id not in self.errors
            ]
            if not waiting:
                break
            if time.monotonic() > deadline:
                self.errors |= {each.cable.id: _waits(each) for each in waiting}
                break
            time.sleep(POLL)
        self._promote()

    def _group(self) -> Group:
        """Return the cables that can go on, as they are now."""
        concerned = [each for each in rotation_state.standings(self._all) if is_concerned(each)]
        self.phases |= {each.cable.id: each.phase for each in concerned}
        able = self._ids - self.errors.keys()
        return [each for each in concerned if each.cable.id in able]

    def _go_on(self, group: Group) -> bool:
        """Run what can be run now; return whether that brought a cable further."""
        for phase in RotationPhase:
            cut_off = [each for each in group if each.phase is phase and self._is_cut_off(each)]
            if cut_off:
                self._run(cut_off, ENSURE[phase])
                return True
        if not group:
            return False
        connections = _connections()
        for phase in RotationPhase:
            ready = [each for each in group if each.phase is phase]
            ready = [each for each in ready if self._is_ready(each, connections)]
            if ready and phase is not NONE:
                time.sleep(SETTLE)
                before, connections = connections, _connections()
                ready = [
                    each
                    for each in ready
                    if self._is_ready(each, connections)
                    and _sas(each, before) == _sas(each, connections)
                ]
            if ready:
                self._run(ready, ADVANCE[phase])
                return True
        if time.monotonic() - self._tried_at <= RETRY:
            return False
        came_up = self._negotiate(group, connections)
        self._tried_at = time.monotonic()
        return came_up

    def _negotiate(self, group: Group, connections: Connections) -> bool:
        """Negotiate what isn't up, and return whether any path came up.

        Where that fails, nothing of the negotiation is left.

        One end begins, so that no connection has two Child SAs: with a second one, the other end
        sends before this end can receive. A server can't begin: it waits for its client.
        """
        came_up = False
        for phase, path in NEGOTIATED.items():
            down = tried = [
                each
                for each in group
                if each.phase is phase and not _is_up(path(each), connections) and path(each).begins
            ]
            if not down:
                continue
            self._run(down, (Part(path, rotate_plan.initiated, (phase,)),))
            end = time.monotonic() + ATTEMPT
            while down and time.monotonic() < end:
                time.sleep(POLL)
                found = _connections()
                down = [each for each in down if not _is_up(path(each), found)]
            came_up |= len(down) < len(tried)
            self._run(down, (Part(path, rotate_plan.reloaded, (phase,)),))
        return came_up

    def _is_cut_off(self, standing: Standing) -> bool:
        """Tell whether an earlier run came to this phase, and perhaps didn't make it whole."""
        return standing.phase is not NONE and _key(standing) not in self._whole

    def _is_ready(self, standing: Standing, connections: Connections) -> bool:
        """Tell whether the next phase of a cable may begin: what it needs was observed."""
        cable, detour = standing.cable, standing.detour
        match standing.phase:
            case RotationPhase.NONE:
                if not _is_up(cable, connections):
                    self.errors[cable.id] = _not_up(cable)
                return _is_up(cable, connections)
            case RotationPhase.PREPARED:
                return _is_up(detour, connections) and _answers(detour, detour, detour) != ""
            case RotationPhase.MOVED:
                return _answers(detour, cable, detour) == _device(detour)
            case RotationPhase.CHANGED:
                return _is_up(cable, connections) and _answers(cable, cable, cable) != ""
            case RotationPhase.RETURNED:
                return _answers(cable, cable, cable) == _device(cable)
            case RotationPhase.DONE:
                return False

    def _run(self, group: Group, parts: Iterable[Part]) -> None:
        """Run the plans one after the other, each for all cables that haven't failed."""
        for part in parts:
            left = [each for each in group if each.cable.id not in self.errors]
            if left:
                self._apply(left, part)
        before = {each.cable.id: each.phase for each in group}
        for standing in self._group():
            if standing.cable.id not in before:
                continue
            self._whole.add(_key(standing))
            if before[standing.cable.id] is not standing.phase:
                self._progress.note(f"{standing.cable.remote.cluster}: {standing.phase.words}")

    def _apply(self, group: Group, part: Part) -> None:
        paths = [(path, each) for each in group for path in (each.cable, each.detour)]
        locks, owners = {path.bundle for path, _ in paths}, {path.id: it for path, it in paths}
        makes: Iterator[MakePlan] = chain(
            (part.make,), repeat(rotate_plan.awaited)
        )  # loaded anew, it is as wanted
        if part.make is not rotate_plan.reloaded:
            makes = repeat(part.make)
        try:
            outcome = execute.apply(
                locks,
                lambda: self._plan(group, part._replace(make=next(makes))),
                self._progress,
                self._timeout,
            )
        except CablectlError as error:
            self.errors |= dict.fromkeys((each.cable.id for each in group), error)
            return
        self.changed |= bool(outcome.plan.needed)
        for path, failure in {**outcome.plan.refused, **outcome.failed}.items():
            self.errors[owners[path].cable.id] = failure

    def _plan(self, group: Group, part: Part) -> Plan:
        """Return the plan for the cables whose phase still allows it; the caller has the lock."""
        ids = {each.cable.id for each in group}
        paths = tuple(
            part.path(each)
            for each in rotation_state.standings(self._all)
            if each.cable.id in ids and each.phase in part.phases
        )
        return part.make(paths, reading.facts_of(paths)) if paths else rotate_plan.NOTHING

    def _promote(self) -> None:
        """Give the next keys their final place: each as soon as no cable needs the old one."""

        def make_plan() -> Plan:
            done = self._replaced()
            if not done:
                return rotate_plan.NOTHING
            return rotate_plan.promoted(done, reading.facts_of(done))

        locks = {cable.bundle for cable in self._all}
        if not self.errors and self._replaced():
            execute.apply(locks, make_plan, self._progress, self._timeout)
            self.changed = True

    def _replaced(self) -> tuple[Cable, ...]:
        """Return the cables whose old key no cable needs any more."""
        standings = [each for each in rotation_state.standings(self._all) if is_concerned(each)]
        needed = {rotate_plan.path_of(it.cable) for it in standings if it.phase is not DONE}
        return tuple(
            each.cable
            for each in standings
            if each.phase is DONE and rotate_plan.path_of(each.cable) not in needed
        )


def next_plans(cables: Sequence[Cable]) -> list[Plan]:
    """Return the plans of the next phase of these cables, whatever the peers do."""
    plans = []
    standings = [each for each in rotation_state.standings(cables) if is_concerned(each)]
    for phase in RotationPhase:
        group = [each for each in standings if each.phase is phase]
        for part in (*ENSURE[phase], *ADVANCE[phase]) if group else ():
            paths = tuple(map(part.path, group))
            plans.append(part.make(paths, reading.facts_of(paths)))
    return plans


def is_concerned(standing: Standing) -> bool:
    """Tell whether there is a next key for the cable, or a rotation has begun."""
    return standing.phase is not NONE or rotation_state.has_next(standing.cable)


def _key(standing: Standing) -> tuple[str, RotationPhase]:
    return standing.cable.id, standing.phase


def _connections() -> Connections:
    """Return pluto's connections; HostNotReadyError if pluto isn't running."""
    status = daemon.pluto_status()
    if status is None:
        raise HostNotReadyError("pluto isn't running", hint="sudo systemctl start ipsec")
    return status.connections


def _is_up(cable: Cable, connections: Connections) -> bool:
    """Tell whether every connection has a Child SA below an IKE SA of the same cable."""
    return all(
        name in connections and connections[name].up and connections[name].ike_of in cable.names
        for name in cable.names
    )


def _sas(standing: Standing, connections: Connections) -> list[tuple[int, ...]]:
    """Return the Child SAs of the path that is to be used next."""
    path = NEGOTIATED.get(standing.phase)
    names = sorted(path(standing).names) if path else []
    return [tuple(sa.serial for sa in connections[name].child_sas) for name in names]


def _device(cable: Cable) -> str:
    return cable.overlay.device if cable.overlay else ""


def _answers(by: Cable, source: Cable, target: Cable) -> str:
    """Return the device by which the peer's answer arrives to a request sent by a cable's device.

    It goes from the local VTEP of one cable to the remote VTEP of another.
    """
    return way.answers_by(_device(by), str(source.local_vtep.ip), str(target.remote_vtep.ip))


def _not_up(cable: Cable) -> CablectlError:
    return HostNotReadyError(
        f"the cable to {cable.remote.cluster} isn't up, so there is no traffic to keep",
        hint="cablectl connect FILE; or put the new key in place of the old one and connect",
    )


def _waits(standing: Standing) -> CablectlError:
    peer = standing.cable.remote.cluster
    missing = {
        PREPARED: "the second path to it has no answer",
        MOVED: "it still sends over the cable",
        CHANGED: "the cable with the new key has no answer",
        RETURNED: "it still sends over the second path",
    }.get(standing.phase, "")
    return ClientAwayError(
        f"waits for {peer}: {missing}; nothing is lost meanwhile",
        hint="run cablectl rotate there, then here again",
    )
