"""Steps of a plan → calls: what one process, or one look, does for several of them.

A call leaves the same behind as its steps one by one: docs/libreswan.md says how that was measured.
With one cable there is nothing to gain, and every step is a call of its own.
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum, auto
from itertools import groupby

from msgspec import Struct

from cablectl.libreswan import pluto_commands, whack
from cablectl.model.argv import Argv
from cablectl.plan.steps import Change, Phase, Plan, Step

# Those commands that say which line of a batch failed: others end it without a word.
_BATCHED = {("ip", "route"), ("ip", "neigh"), ("bridge", "fdb")}
_LOOK = ("ip", "xfrm", "policy", "get")
_NEGOTIATE = (Phase.ADD, Phase.ROUTE, Phase.INITIATE)
_WORD = re.compile(r"[\w.:/-]+")  # quotes, backslashes and # mean something in a batch


class Kind(Enum):
    """How a call does its steps."""

    ALONE = auto()
    LOAD = auto()  # a connection is added, routed and, if it is this end's turn, initiated at once
    SECRETS = auto()  # all secrets files are written by one shell
    BATCH = auto()  # of ip or bridge
    LOOK = auto()  # policies are seen in one listing
    WAIT = auto()


class Call(Struct, frozen=True):
    """Steps that are done at once; one that is alone is its command, word for word."""

    kind: Kind
    steps: tuple[Step, ...]


def calls(plan: Plan) -> list[Call]:
    """Return the calls that do what the plan needs.

    Of several cables each is loaded, routed and initiated before the next one, so that its peer
    answers meanwhile; all else stays in the order of the plan.
    """
    needed = plan.needed
    if len(plan.cables) == 1:
        return [Call(Kind.WAIT if step.waits_for else Kind.ALONE, (step,)) for step in needed]
    negotiation = [step for step in needed if _negotiates(step)]
    first = needed.index(negotiation[0]) if negotiation else len(needed)
    return [
        *_grouped(needed[:first]),
        *_loads(negotiation),
        *_grouped(step for step in needed[first:] if not _negotiates(step)),
    ]


def load(steps: Sequence[Step]) -> Argv:
    """Return the one command that adds a connection, routes it and, of three, initiates."""
    add, _, *initiate = steps
    return (*add.argv, "--route", *(("--initiate", "--asynchronous") if initiate else ()))


def _negotiates(step: Step) -> bool:
    return step.phase in _NEGOTIATE and step.argv[:2] == pluto_commands.WHACK


def _loads(steps: Sequence[Step]) -> Iterator[Call]:
    """Yield the calls of each cable in turn."""
    of: dict[str, list[Step]] = {}
    for step in steps:
        of.setdefault(step.cable, []).append(step)
    for its in of.values():
        later = {step.argv: step for step in its if step.phase is not Phase.ADD}
        for step in its:
            if step.phase is not Phase.ADD:
                if later.pop(step.argv, None):
                    yield Call(Kind.ALONE, (step,))
                continue
            adds, name = step.kind is Change.ADD, _name(step)
            route = later.pop(whack.route(name), None) if adds else None
            initiate = later.pop(whack.initiate(name), None) if route else None
            steps_of_it = tuple(each for each in (step, route, initiate) if each)
            yield Call(Kind.LOAD if route else Kind.ALONE, steps_of_it)


def _name(step: Step) -> str:
    return step.argv[step.argv.index("--name") + 1]


def _grouped(steps: Iterable[Step]) -> Iterator[Call]:
    """Yield the calls in the order of the steps; neighbours of a kind and a program are one."""
    for (kind, *_), group in groupby(steps, lambda each: (_kind(each), each.phase, each.argv[0])):
        if kind is Kind.ALONE:
            yield from (Call(kind, (step,)) for step in group)
        else:
            yield Call(kind, tuple(group))


def _kind(step: Step) -> Kind:
    if step.waits_for:
        return Kind.WAIT
    if step.argv[: len(_LOOK)] == _LOOK:
        return Kind.LOOK
    if step.phase is Phase.SECRET and step.cable:
        return Kind.SECRETS
    batched = step.argv[:2] in _BATCHED and all(map(_WORD.fullmatch, step.argv))
    return Kind.BATCH if batched else Kind.ALONE
