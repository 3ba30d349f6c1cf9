"""The steps of a plan become calls: what one process does for several steps.

A call leaves the same state as its steps one by one (docs/libreswan.md has the measurement).
With one cable nothing is gained, so every step is a call of its own.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import groupby

from msgspec import Struct

from cablectl.libreswan import pluto_commands, whack
from cablectl.libreswan.dialects import dialect
from cablectl.model.argv import Argv
from cablectl.plan.steps import Change, Phase, Plan, Step

# Only these commands report which line of a batch failed.
_BATCHED = {("ip", "route"), ("ip", "neigh"), ("bridge", "fdb")}
_LOOK = ("ip", "xfrm", "policy", "get")
_NEGOTIATE = (Phase.ADD, Phase.ROUTE, Phase.INITIATE)
_REMOVALS = (Phase.UNLINK, Phase.DELETE, Phase.FORGET, Phase.UNGUARD)
_WORD = re.compile(r"[\w.:/-]+")  # quotes, backslashes and # are special in a batch


class Kind(Enum):
    """How a call runs its steps."""

    ALONE = auto()
    LOAD = auto()  # one whack adds a connection, and routes and initiates it if this end does
    SECRETS = auto()  # one shell writes all credentials
    BATCH = auto()  # one ip or bridge runs all commands
    LOOK = auto()  # one listing shows all policies
    WAIT = auto()


class Call(Struct, frozen=True):
    """Steps that are run together; a single step is its command, word for word."""

    kind: Kind
    steps: tuple[Step, ...]


class Finish(Struct, frozen=True):
    """The needed steps of a plan from its first wait on, to be run cable by cable.

    What all cables share is run with the first one. `last` are the steps after all others: they
    remove what is left of other cables.
    """

    waits: tuple[Step, ...]
    steps: tuple[Step, ...]
    last: tuple[Step, ...]

    def calls(self, cables: Collection[str], *, shared: bool) -> Iterator[Call]:
        """Yield the calls for some cables, by id, and for all cables if `shared`."""
        return _grouped(
            (step for step in self.steps if (step.cable in cables if step.cable else shared)),
            Kind.ALONE,
        )

    def last_calls(self) -> Iterator[Call]:
        """Yield the calls that are run last of all."""
        return _grouped(self.last, Kind.ALONE)


def staged(plan: Plan) -> tuple[list[Call], Finish | None]:
    """Return the calls before the first wait, and the rest of a plan for several cables.

    Without a wait, or with one cable, all calls are in the list.
    """
    every = calls(plan)
    first = next((i for i, call in enumerate(every) if call.kind is Kind.WAIT), None)
    if first is None or len(plan.cables) == 1:
        return every, None
    rest = [step for call in every[first:] for step in call.steps]
    own = {"", *(cable.id for cable in plan.cables)}
    waits, steps, last = list[Step](), list[Step](), list[Step]()
    for step in rest:
        removes = step.phase in _REMOVALS or step.cable not in own
        (waits if step.waits_for else last if removes else steps).append(step)
    return every[:first], Finish(tuple(waits), tuple(steps), tuple(last))


def calls(plan: Plan) -> list[Call]:
    """Return the calls that run the needed steps of a plan.

    Each of several cables is added, routed and initiated before the next one, so that its peer can
    answer meanwhile. All other steps stay in the order of the plan.
    """
    needed = plan.needed
    if len(plan.cables) == 1:
        return [
            call
            for waits, group in groupby(needed, lambda step: bool(step.waits_for))
            for call in (
                [Call(Kind.WAIT, tuple(group))]
                if waits
                else [Call(Kind.ALONE, (step,)) for step in group]
            )
        ]
    negotiation = [step for step in needed if _negotiates(step)]
    first = needed.index(negotiation[0]) if negotiation else len(needed)
    combines = dialect(plan.facts[0].libreswan).combines
    secrets = Kind.ALONE if plan.cables[0].ppk else Kind.SECRETS
    return [
        *_grouped(needed[:first], secrets),
        *_loads(negotiation, combines=combines),
        *_grouped((step for step in needed[first:] if not _negotiates(step)), secrets),
    ]


def load(steps: Sequence[Step]) -> Argv:
    """Return the one command for an add step and for a route or an initiate step, or both."""
    add, *others = steps
    phases = {step.phase for step in others}
    route = ("--route",) if Phase.ROUTE in phases else ()
    initiate = ("--initiate", "--asynchronous") if Phase.INITIATE in phases else ()
    return (*add.argv, *route, *initiate)


def _negotiates(step: Step) -> bool:
    return step.phase in _NEGOTIATE and step.argv[:2] == pluto_commands.WHACK


def _loads(steps: Sequence[Step], *, combines: bool) -> Iterator[Call]:
    """Yield the calls of one cable after the other, and of one connection after the other."""
    by_cable: dict[str, list[Step]] = {}
    for step in steps:
        by_cable.setdefault(step.cable, []).append(step)
    for of_cable in by_cable.values():
        for of_connection in _by_connection(of_cable):
            if combines and len(of_connection) > 1:
                yield Call(Kind.LOAD, of_connection)
            else:
                yield from (Call(Kind.ALONE, (step,)) for step in of_connection)


def _by_connection(steps: Sequence[Step]) -> Iterator[tuple[Step, ...]]:
    """Yield the steps of a cable; an add step takes its route and initiate steps with it."""
    later = {step.argv: step for step in steps if step.phase is not Phase.ADD}
    for step in steps:
        if step.phase is not Phase.ADD:
            if later.pop(step.argv, None):
                yield (step,)
            continue
        then = (whack.route(_name(step)), whack.initiate(_name(step)))
        taken = [later.pop(argv, None) for argv in then if step.kind is Change.ADD]
        yield tuple(each for each in (step, *taken) if each)


def _name(step: Step) -> str:
    return step.argv[step.argv.index("--name") + 1]


def _grouped(steps: Iterable[Step], secrets: Kind) -> Iterator[Call]:
    """Yield the calls in the order of the steps; equal neighbours become one call.

    `secrets` is the kind of the calls that write credentials.
    """
    for (kind, *_), group in groupby(
        steps, lambda step: (_kind(step, secrets), step.phase, step.argv[0])
    ):
        if kind is Kind.ALONE:
            yield from (Call(kind, (step,)) for step in group)
        else:
            yield Call(kind, tuple(group))


def _kind(step: Step, secrets: Kind) -> Kind:
    if step.waits_for:
        return Kind.WAIT
    if step.argv[: len(_LOOK)] == _LOOK:
        return Kind.LOOK
    if step.phase is Phase.SECRET and step.cable:
        return secrets
    batched = step.argv[:2] in _BATCHED and all(map(_WORD.fullmatch, step.argv))
    return Kind.BATCH if batched else Kind.ALONE
