"""A plan as a value: the ordered steps of an action on cables.

The order keeps the overlay from sending in clear text at any moment. The guard is loaded first and
removed last. Without a guard the trap policies are installed, and checked in the kernel, before the
device exists, and removed after the device.
The device is made last, when the SAs are installed. A packet that meets a trap policy without an SA
makes pluto initiate from this end too, which leaves two Child SAs (docs/adr/0001-overlay-last.md).
"""

from collections.abc import Iterable
from enum import StrEnum

from msgspec import Struct

from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Facts
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable

COMMAND_LIMIT = 20  # seconds; a host on which many programs start at once is slow
WAIT_LIMIT = 60  # seconds for the Child SAs, unless the user says otherwise


class Action(StrEnum):
    """What a plan does."""

    CONNECT = "connect"
    TEARDOWN = "teardown"


class Phase(StrEnum):
    """A stage of a plan; its value is the comment before its commands in a script."""

    GUARD = "guard: nothing of the cable passes without IPsec, in or out"
    MSS = "mss: TCP agrees on segments that fit the cable"
    PLUTO = "pluto: the daemon runs"
    OFFLOAD = "offload: load the kernel's IPsec modules"
    UNLOAD = "unload: connections that would be in the way of the new ones"
    SECRET = "secret: the pre-shared key of each pair of gateways"  # noqa: S105 - a word, no key
    ADD = "add: load the connections"
    ROUTE = "route: trap policies, from here on what they match is encrypted or dropped"
    INITIATE = "initiate: negotiate the SAs"
    WAIT = "wait: until a Child SA stands for every connection"
    RETIRE = "retire: Child SAs that the kernel has lost, or that are too many"
    OVERLAY = "overlay: the device, its address and settings, not up yet"
    UP = "up: the device and its routes"
    RELEASE = "release: the watch no longer repairs the cable"
    UNLINK = "unlink: routes and device, while what they send is still encrypted"
    DELETE = "delete: unload the connections"
    FORGET = "forget: the pre-shared key"
    UNGUARD = "unguard: at the very last"

    @property
    def label(self) -> str:
        """The phase in one word."""
        return self.value.partition(":")[0]


class Change(StrEnum):
    """What a step does to the host; its value is the sign in a plan."""

    ADD = "+"
    ALTER = "~"
    REMOVE = "-"
    NONE = "="


class Step(Struct, frozen=True, kw_only=True):
    """One command of a plan."""

    phase: Phase
    argv: Argv
    why: str
    undo: tuple[Argv, ...] = ()  # the commands that undo it, in order
    not_needed: str = ""  # the reason, if it isn't needed
    limit: float = COMMAND_LIMIT  # seconds
    waits_for: str = ""  # the connection whose Child SA it waits for
    can_ask: bool = True  # whether this end can initiate that connection to learn the refusal
    kind: Change = Change.ADD
    cable: str = ""  # the id of its only cable; empty if all cables share the step

    @property
    def change(self) -> Change:
        """What the step does to the host: nothing if it isn't needed."""
        return Change.NONE if self.not_needed else self.kind


class Plan(Struct, frozen=True, kw_only=True):
    """The steps of an action on cables, in the order of the phases."""

    action: Action
    cables: tuple[Cable, ...]
    facts: tuple[Facts, ...]  # in the order of the cables
    steps: tuple[Step, ...]
    refused: dict[str, CablectlError] = {}  # why other cables, by id, have no steps
    warnings: tuple[str, ...] = ()
    command: str = ""  # the command that it belongs to, unless that is the action's own

    @property
    def title(self) -> str:
        """The command in whose name the steps are run."""
        return self.command or self.action

    @property
    def needed(self) -> tuple[Step, ...]:
        """The steps that change something, or wait for a change."""
        return tuple(step for step in self.steps if not step.not_needed)


def in_order(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Return steps in the order of their phases; the order within a phase stays."""
    order = {phase: place for place, phase in enumerate(Phase)}
    return tuple(sorted(steps, key=lambda step: order[step.phase]))


class Outcome(Struct, frozen=True):
    """A plan that was run, and the error of each cable, by id, that failed."""

    plan: Plan
    failed: dict[str, CablectlError] = {}
