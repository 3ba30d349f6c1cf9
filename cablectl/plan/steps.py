"""A plan is a value: the ordered commands of an action on cables, each with its undo and its why.

The order is what keeps the overlay from ever sending in clear text: the guard stands first and goes
last; the trap policies stand, and are looked up in the kernel, before the device is there; they go
only after the device is gone.
The device is made last, when the SAs stand: what meets a trap without an SA has pluto initiate from
this end too, which leaves two Child SAs instead of one (docs/adr/0001-overlay-last.md).
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Facts
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable

COMMAND_LIMIT = 5  # seconds, as in Submariner's driver
WAIT_LIMIT = 60  # seconds for the Child SAs, unless the user says otherwise


class Action(StrEnum):
    """What a plan is for."""

    CONNECT = "connect"
    TEARDOWN = "teardown"


class Phase(StrEnum):
    """A stage of a plan; the text is the comment that a script has before it."""

    GUARD = "guard: nothing of the cable passes without IPsec, in or out"
    PLUTO = "pluto: the daemon runs"
    OFFLOAD = "offload: load the kernel's IPsec modules"
    SECRET = "secret: the pre-shared key of these two gateways"  # noqa: S105 - a word, no key
    ADD = "add: load the connections"
    ROUTE = "route: trap policies, from here on what they match is encrypted or dropped"
    INITIATE = "initiate: negotiate the SAs"
    WAIT = "wait: until a Child SA stands for every connection"
    OVERLAY = "overlay: the device, its address and settings, not up yet"
    UP = "up: the device and its routes"
    UNLINK = "unlink: routes and device, while what they send is still encrypted"
    DELETE = "delete: unload the connections"
    FORGET = "forget: the pre-shared key"
    UNGUARD = "unguard: at the very last"

    @property
    def label(self) -> str:
        """The phase in one word."""
        return self.value.partition(":")[0]


class Change(StrEnum):
    """What a step does to the host, as a difference is written."""

    ADD = "+"
    ALTER = "~"
    REMOVE = "-"
    NONE = "="


class Step(Struct, frozen=True, kw_only=True):
    """One command: why it is there, how it is undone, and if not needed, why not.

    `limit` is how many seconds it may take; `waits_for` is the connection whose Child SA it awaits,
    and `can_ask` says whether this end could initiate it to hear why there is none. `cable` is the
    id of the only cable that it is for: without one it is for all of the plan.
    """

    phase: Phase
    argv: Argv
    why: str
    undo: tuple[Argv, ...] = ()
    not_needed: str = ""
    limit: float = COMMAND_LIMIT
    waits_for: str = ""
    can_ask: bool = True
    kind: Change = Change.ADD
    cable: str = ""

    @property
    def change(self) -> Change:
        """What it does to the host: nothing, if it isn't needed."""
        return Change.NONE if self.not_needed else self.kind


class Plan(Struct, frozen=True, kw_only=True):
    """The ordered steps of an action on cables, in the order of the phases.

    `facts` are in the order of `cables`; `refused` says why cables (by id) that aren't among them
    have no steps; `warnings` are for a person to read first.
    """

    action: Action
    cables: tuple[Cable, ...]
    facts: tuple[Facts, ...]
    steps: tuple[Step, ...]
    refused: dict[str, CablectlError] = {}
    warnings: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[Step, ...]:
        """The steps that change something, or wait for it."""
        return tuple(step for step in self.steps if not step.not_needed)


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return steps in the order of their phases; those of a phase stay in theirs."""
    places = {phase: place for place, phase in enumerate(Phase)}
    return tuple(sorted(steps, key=lambda step: places[step.phase]))


class Outcome(Struct, frozen=True):
    """A plan that was run, and why those of its cables failed (by id) that did."""

    plan: Plan
    failed: dict[str, CablectlError] = {}
