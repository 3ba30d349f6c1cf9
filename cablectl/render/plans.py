"""A plan as a shell script, as a difference or as a table, and the outcome in one line."""

import shlex
from collections.abc import Iterator
from itertools import groupby, islice
from typing import TextIO

from cablectl.linux import guard
from cablectl.model.wishes import Mode
from cablectl.model.x509 import Auth
from cablectl.plan.steps import Action, Outcome, Phase, Plan
from cablectl.render.text import console, printable

# Before anything is made. Libreswan's own script would flush all policies if pluto isn't running.
_PLUTO_RUNS = (
    "pidof pluto >/dev/null ||"
    ' { echo "cablectl: pluto isn\'t running; try: sudo systemctl start ipsec" >&2; exit 3; }'
)
_FAILED = (
    'failed() {{ [ "$1" = 0 ] || {{'
    ' echo "cablectl: the phase $at failed with exit code $1; the error is above";'
    ' echo "  What the script made before is still there{also}";'
    ' echo "  try: cablectl teardown FILE";'
    " }} >&2; }}"
)


def as_script(plan: Plan) -> str:
    """Return the plan as a POSIX script, one command on each line."""
    return "".join(f"{line}\n" for line in _script(plan))


def assumed(plan: Plan) -> tuple[str, ...]:
    """Return what a dry run didn't read but took for granted, each text once."""
    return tuple(dict.fromkeys(text for facts in plan.facts for text in facts.assumed))


def as_difference(plan: Plan) -> str:
    """Return a line for each step: + adds, ~ alters, - removes, = has nothing to do.

    The command of a step that is needed stands below its line.
    """
    lines = [f"# {_title(plan)}"]
    for step in plan.steps:
        sign, label = step.change, step.phase.label
        lines.append(
            f"{sign} {label:9} {step.why}" + (f": {step.not_needed}" if step.not_needed else "")
        )
        lines += [] if step.not_needed else [f"    $ {shlex.join(step.argv)}"]
    return "".join(f"{line}\n" for line in lines)


MOST_CELLS = 1000  # that rich gets at once: it takes 14 KiB for each


def print_table(plan: Plan, stream: TextIO) -> None:
    """Print the plan for a person: the commands, their reasons, and the steps without need.

    rich's Table isn't used: it takes a millisecond for each step, and a mesh has thousands.
    """
    to = console(stream)
    cells = _cells(plan, to.width)
    if to.color_system is None:
        stream.writelines(words for words, _ in cells)
        return
    from rich.text import Text

    while part := list(islice(cells, MOST_CELLS)):
        to.print(Text.assemble(*part), soft_wrap=True, end="")


def _cells(plan: Plan, width: int) -> Iterator[tuple[str, str]]:
    """Yield the table's texts, each with its style, in lines of at most `width` characters."""
    column = max(len(phase.label) for phase in Phase) + 2
    yield f"{_title(plan)}\n", "italic"
    yield f"{'phase':{column}}step\n", "bold"
    for phase, steps in groupby(plan.steps, key=lambda step: step.phase):
        label = phase.label
        for step in steps:
            why = f"not needed: {step.not_needed}" if step.not_needed else step.why
            for line in _folded(why, width - column):
                yield f"{label:{column}}", "bold"
                yield f"{line}\n", ""
                label = ""
            for line in _folded(shlex.join(step.argv), width - column - 2):
                yield f"{'':{column + 2}}{line}\n", "dim"


def _folded(text: str, width: int) -> list[str]:
    from textwrap import wrap

    return wrap(text, max(width, 20), break_on_hyphens=False)


def as_warnings(plan: Plan) -> list[str]:
    """Return a line for each warning of the plan."""
    refused = (f"{name} is left out: {error.message}" for name, error in plan.refused.items())
    return [f"cablectl: warning: {printable(text)}" for text in (*plan.warnings, *refused)]


def as_summary(outcome: Outcome) -> str:
    """Return the outcome in one line; an empty text if no cable is as planned."""
    plan, failed = outcome.plan, outcome.failed
    cables = [cable for cable in plan.cables if cable.id not in failed]
    if not cables:
        return ""
    verb = "" if plan.needed else "nothing to do: "
    first = cables[0]
    which = (
        f"the cable to {first.remote.cluster} is"
        if len(cables) == 1
        else f"the {len(cables)} cables of {first.local.cluster} are"
    )
    if plan.action is Action.TEARDOWN:
        subject = which.removesuffix(" is").removesuffix(" are")
        removes = any(step.argv == guard.remove(first) for step in plan.steps)
        keeps = first.guarded and not removes
        return f"{verb}no trace of {subject} is left{', except the guard' if keeps else ''}"
    waited = any(step.waits_for for step in plan.steps)
    if first.mode is Mode.NONE:
        state = "up, in clear text"
    elif waited:
        state = f"up, encrypted by ESP in {first.mode} mode"
    else:
        state = "made; connect didn't wait for SAs"
    device = f" ({first.overlay.device}, VTEP {first.local_vtep.ip})" if first.overlay else ""
    started = "; pluto was started" if any(s.phase is Phase.PLUTO for s in plan.needed) else ""
    return f"{verb}{which} {state}{device}{started}"


def _title(plan: Plan) -> str:
    first, peers = plan.cables[0], len(plan.cables)
    to = first.remote.cluster if peers == 1 else f"{peers} peers"
    release = f", for Libreswan {plan.facts[0].libreswan}" if first.connections else ""
    return f"{plan.title} {first.local.cluster} to {to}{release}"


def _script(plan: Plan) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# cablectl: {_title(plan)}. Run as root."
    yield from (f"# assumed: {text}" for text in assumed(plan))
    yield from (f"# warning: {text}" for text in plan.warnings)
    yield from (f"# refused: {name}: {error.message}" for name, error in plan.refused.items())
    if plan.action is Action.CONNECT:
        yield from _beginning_of_connect(plan)
    else:
        yield "# What is missing already is fine: each command runs, whatever the one before said."
    for phase, steps in groupby(plan.steps, key=lambda step: step.phase):
        yield ""
        yield f"# {_heading(plan, phase)}"
        if plan.action is Action.CONNECT:
            yield f"at='{phase.label}'"
        for step in steps:
            command = shlex.join(step.argv)
            yield f"# not needed ({step.not_needed}): {command}" if step.not_needed else command


def _heading(plan: Plan, phase: Phase) -> str:
    """Return what a phase does, with the credential of the file's method."""
    if plan.cables[0].ipsec.auth is Auth.CERT and phase in (Phase.SECRET, Phase.FORGET):
        return f"{phase.label}: the certificate and its key in NSS, Libreswan's own store"
    return phase.value


def _beginning_of_connect(plan: Plan) -> Iterator[str]:
    """Yield what makes the script stop at the first failure, and say where and what is left."""
    yield "set -eu  # stop at the first failure"
    if any(step.phase is Phase.PLUTO and step.not_needed for step in plan.steps):
        yield _PLUTO_RUNS
    tables = sorted({guard.name(cable) for cable in plan.cables if cable.guarded})
    also = f", also the guard: nft delete table {' or '.join(tables)}" if tables else ""
    yield _FAILED.format(also=also)
    yield "trap 'failed $?' EXIT"
