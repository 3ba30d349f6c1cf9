"""Makes cables again what their file says, by the plan that connect makes."""

import time
from collections import deque
from collections.abc import Callable, Set
from contextlib import suppress
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import BusyError, CablectlError, HostNotReadyError
from cablectl.facts.host_facts import Facts
from cablectl.host import reading, rotation_state
from cablectl.linux import watch_file
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.rotation import RotationPhase
from cablectl.plan import connect_plan, repair_plan
from cablectl.plan.steps import Outcome, Phase, Plan
from cablectl.run import execute
from cablectl.run.hold import Hold
from cablectl.run.journal import held
from cablectl.run.runner import Progress
from cablectl.status import state

OFTEN, PERIOD = 5, 60.0  # so many repairs of one kind in so many seconds are too many
DELETED = 120.0  # seconds until a Child SA is deleted; pluto repeats a deletion for 60
SILENT = "nothing comes from the peer"
SEVERAL = ""  # stands for the id of the cables that share a step


class Repair(Struct, frozen=True):
    """What was mended: the cable's id and name, why, in which phases, and in how many seconds."""

    id: str
    cable: str
    reasons: tuple[str, ...]
    kinds: tuple[str, ...]
    seconds: float


class Look(Struct, frozen=True):
    """The cables, what the host has of them in the end, what was mended, and what failed."""

    cables: tuple[Cable, ...] = ()
    facts: tuple[Facts, ...] = ()
    repairs: tuple[Repair, ...] = ()
    errors: tuple[CablectlError, ...] = ()

    @property
    def up(self) -> frozenset[str]:
        """The ids of the cables whose connections all have a Child SA."""
        return repair_plan.up(self.cables, self.facts)


class Reconciler:
    """Keeps the cables of one file and one local end.

    `changed` returns the cables of the file if it was changed since the last call, else nothing.
    """

    def __init__(
        self,
        cables: tuple[Cable, ...],
        progress: Progress,
        changed: Callable[[], tuple[Cable, ...]] = tuple,
        *,
        narrowed: bool = False,
    ) -> None:
        """Hold the cables; HostNotReadyError if another watch holds one of them."""
        self._cables: tuple[Cable, ...] = ()
        self._progress, self._changed, self._narrowed = progress, changed, narrowed
        self._later: tuple[Cable, ...] = ()  # of a changed file that connect hasn't applied
        self._holds: dict[str, Hold] = {}  # by the cable's id
        self._repaired: dict[tuple[str, Phase], deque[float]] = {}  # when, by cable and kind
        self._retired: dict[tuple[str, Argv], float] = {}  # when, by cable and command
        self.take(cables)

    def take(self, cables: tuple[Cable, ...]) -> None:
        """Take the cables of a changed file in the place of the earlier ones.

        HostNotReadyError, with the earlier cables kept, if another watch holds one of them.
        """
        before = set(self._holds)
        try:
            for cable in cables:
                if cable.id not in before:
                    self._hold(cable)
        except HostNotReadyError:
            for new in self._holds.keys() - before:
                self._drop(new)
            raise
        ids = {cable.id for cable in cables}
        for gone in self._holds.keys() - ids:
            self._drop(gone)
        self._cables, self._later = cables, ()

    def _hold(self, cable: Cable) -> None:
        name = f"the cable {cable.remote.cable_name}"
        self._holds[cable.id] = Hold(Path(watch_file.path(cable)), "watch", name)

    def _drop(self, cable: str) -> None:
        hold = self._holds.pop(cable)
        hold.remove_file()
        hold.close()

    def close(self) -> None:
        """Let all cables go; they stay as they are."""
        for cable in list(self._holds):
            self._drop(cable)

    @property
    def cables(self) -> tuple[Cable, ...]:
        """The cables of the file, as they are while their keys are rotated."""
        return rotation_state.as_they_are(self._cables)

    @property
    def is_alone(self) -> bool:
        """Whether a teardown has removed every cable."""
        return not any(self._kept(cable) for cable in self._cables)

    def _kept(self, cable: Cable) -> bool:
        hold = self._holds.get(cable.id)
        return hold is not None and not hold.lost

    def look(self, silent: Set[str] = frozenset(), down: Set[str] = frozenset()) -> Look:
        """Read the host, and mend what differs from the file; nothing is waited for.

        The cables in `silent`, by id, are negotiated anew, and so are those in `down` that have not
        come up meanwhile. CablectlError if the host can't be read, or if no cable can be as the
        file says.
        """
        self._adopt()
        cables = self.cables
        begin, seen = time.monotonic(), list[tuple[Facts, ...]]()

        def make_plan() -> Plan:
            """Plan under the locks; what a peer does meanwhile is for the next look."""
            seen.append(reading.facts_of(cables))
            up = repair_plan.up(cables, seen[0])
            if len(seen) > 1:
                return self._plan(cables, seen[-1], up)
            marked = _marked(cables, seen[0], silent | (down - up), self._stuck())
            return self._plan(cables, marked, up)

        bundles = {cable.bundle for cable in cables}
        outcome = execute.apply(bundles, make_plan, self._progress, 0)
        self._take_again(cables, seen[-1])
        # A cable that is negotiated anew has a back-off of its own.
        kinds = ((step.cable, step.phase) for step in outcome.plan.needed)
        self._note({kind for kind in kinds if kind[0] not in silent | down})
        self._note_retired(outcome.plan)
        repairs = _repairs(outcome, time.monotonic() - begin)
        return Look(cables, seen[-1], repairs, tuple(outcome.failed.values()))

    def _adopt(self) -> None:
        """Take a changed file that connect has applied, instead of setting the cables back."""
        self._later = self._changed() or self._later
        if not self._later:
            return
        cables = rotation_state.as_they_are(self._later)
        with suppress(CablectlError):
            facts = reading.facts_of(cables)
            whole = connect_plan.plan(cables, facts, wait=False, narrowed=self._narrowed)
            if not repair_plan.plan(whole, repair_plan.up(cables, facts), {}).needed:
                self.take(self._later)

    def _plan(self, cables: tuple[Cable, ...], facts: tuple[Facts, ...], ready: Set[str]) -> Plan:
        whole = connect_plan.plan(cables, facts, wait=False, narrowed=self._narrowed)
        return repair_plan.plan(
            whole, ready, self._left_alone(cables), self.contested, self._retired.keys()
        )

    @property
    def contested(self) -> str:
        """Why nothing but the guard is mended for a while; "" if all is mended.

        Another program undoes each repair. A guard is loaded again whatever happens.
        """
        now = time.monotonic()
        for (_, phase), times in self._repaired.items():
            if phase is not Phase.GUARD and len(times) == OFTEN and now - times[0] < PERIOD:
                return f"{phase.label} was mended {OFTEN} times in {PERIOD:.0f} s"
        return ""

    def _left_alone(self, cables: tuple[Cable, ...]) -> dict[str, str]:
        """Return the ids of the cables that aren't mended now, each with the reason."""
        rotating = {
            standing.cable.id
            for standing in rotation_state.standings(cables)
            if standing.phase is not RotationPhase.NONE
        }
        alone = dict.fromkeys(rotating, "a rotation is under way")
        if rotating:
            alone[SEVERAL] = "a rotation is under way"
        alone.update({cable.id: "torn down" for cable in cables if not self._kept(cable)})
        return alone

    def _note(self, repaired: Set[tuple[str, Phase]]) -> None:
        now = time.monotonic()
        for kind in repaired:
            self._repaired.setdefault(kind, deque(maxlen=OFTEN)).append(now)

    def _note_retired(self, plan: Plan) -> None:
        """Note when pluto was first told to delete each Child SA that it still has."""
        now, before = time.monotonic(), self._retired
        self._retired = {
            each: before.get(each, now)
            for step in plan.steps
            if step.phase is Phase.RETIRE
            and ((each := (step.cable, step.argv)) in before or not step.not_needed)
        }

    def _stuck(self) -> frozenset[str]:
        """Return the ids of the cables of which pluto can't delete a Child SA.

        In 4.10 the deletion waits behind a request of an IKE SA that the peer no longer has, and
        that request never ends (docs/libreswan.md).
        """
        now = time.monotonic()
        return frozenset(cable for (cable, _), at in self._retired.items() if now - at > DELETED)

    def _take_again(self, cables: tuple[Cable, ...], facts: tuple[Facts, ...]) -> None:
        """Hold cables again that somebody connected after a teardown."""
        if all(self._kept(cable) for cable in cables) or not self._connected(cables, facts):
            return
        with suppress(BusyError), held({cable.bundle for cable in cables}, 0, lambda _: None):
            # No teardown is under way now.
            for cable in self._connected(cables, reading.facts_of(cables)):
                let_go = self._holds[cable.id]
                with suppress(HostNotReadyError):  # another watch has taken it
                    self._hold(cable)
                    let_go.close()

    def _connected(self, cables: tuple[Cable, ...], facts: tuple[Facts, ...]) -> list[Cable]:
        """Return the cables that were let go, and that the host has again."""
        pairs = zip(cables, facts, strict=True)
        return [
            cable for cable, found in pairs if not self._kept(cable) and _is_there(cable, found)
        ]


def _marked(
    cables: tuple[Cable, ...], facts: tuple[Facts, ...], silent: Set[str], stuck: Set[str]
) -> tuple[Facts, ...]:
    return tuple(
        replace(of_cable, silent=cable.id in silent, stuck=cable.id in stuck)
        for cable, of_cable in zip(cables, facts, strict=True)
    )


def _is_there(cable: Cable, facts: Facts) -> bool:
    """Tell whether the host has what connect makes first of a cable."""
    if cable.connections:
        return facts.made_here and len(facts.loaded(cable)) == len(cable.connections)
    return facts.overlay.link is not None and facts.overlay.link.ours


def _repairs(outcome: Outcome, seconds: float) -> tuple[Repair, ...]:
    """Return what was done for each cable that didn't fail.

    What several cables share counts for the first.
    """
    plan, kinds = outcome.plan, dict[str, dict[str, None]]()
    for step in plan.needed:
        kinds.setdefault(step.cable or plan.cables[0].id, {})[step.phase.label] = None
    return tuple(
        Repair(
            cable.id,
            cable.remote.cable_name,
            (SILENT,) if found.silent else state.of(cable, found, time.time()).reasons,
            tuple(kinds[cable.id]),
            seconds,
        )
        for cable, found in zip(plan.cables, plan.facts, strict=True)
        if cable.id in kinds and cable.id not in outcome.failed
    )
