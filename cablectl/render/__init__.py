"""Plan, result and progress → shell script, JSON, table, lines: the only room that imports rich.

rich costs 20 ms and json 2, so each is imported where it is used.
"""

import shlex
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any, TextIO

from cablectl.errors import CablectlError
from cablectl.libreswan import Argv
from cablectl.model import Mode
from cablectl.plan import Action, Phase, Plan, Step

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

JSON_VERSION = 1


def as_script(plan: Plan) -> str:
    """Return a POSIX script that does what the plan does, one command a line."""
    return "".join(f"{line}\n" for line in _script(plan))


def as_json(plan: Plan) -> str:
    """Return the plan as a JSON object; docs/json.md describes it."""
    import json

    return json.dumps(
        {
            "version": JSON_VERSION,
            "action": plan.action,
            "cable": plan.cable.id,
            "local": plan.cable.local.cluster,
            "remote": plan.cable.remote.cluster,
            "mode": plan.cable.mode,
            "overlay": plan.cable.overlay.kind if plan.cable.overlay else None,
            "libreswan": str(plan.facts.libreswan) if plan.cable.connections else None,
            "assumed": plan.facts.assumed,
            "warnings": plan.warnings,
            "steps": [
                {
                    "phase": step.phase.label,
                    "argv": step.argv,
                    "change": step.change,
                    "why": step.why,
                    "undo": step.undo,
                    "needed": not step.not_needed,
                    "reason": step.not_needed or None,
                }
                for step in plan.steps
            ],
        },
        indent=2,
    )


def as_difference(plan: Plan) -> str:
    """Return what the plan would change, a line each: + added, ~ altered, - removed, = there.

    Below what changes stands its command.
    """
    lines = [f"# {_title(plan)}"]
    for step in plan.steps:
        sign, label = step.change, step.phase.label
        lines.append(
            f"{sign} {label:9} {step.why}" + (f": {step.not_needed}" if step.not_needed else "")
        )
        lines += [] if step.not_needed else [f"    $ {shlex.join(step.argv)}"]
    return "".join(f"{line}\n" for line in lines)


def print_table(plan: Plan, stream: TextIO) -> None:
    """Print the plan for a person: what runs, why, and what needn't."""
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    table = Table(title=_title(plan), title_justify="left", box=None, pad_edge=False)
    table.add_column("phase", style="bold", no_wrap=True)
    table.add_column("step", overflow="fold")
    for phase, steps in groupby(plan.steps, key=lambda step: step.phase):
        label = phase.label
        for step in steps:
            why = f"not needed: {step.not_needed}" if step.not_needed else step.why
            table.add_row(label, Text(why))
            table.add_row("", Padding(Text(shlex.join(step.argv), style="dim"), (0, 0, 0, 2)))
            label = ""
    console(stream).print(table)


class LineProgress:
    """A plain line for each thing that happens: for logs, pipes and scripts."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def note(self, text: str) -> None:
        """Show what concerns other runs."""
        self._say(f"cablectl: note: {text}")

    def begin(self, plan: Plan) -> None:
        """Show the warnings."""
        for line in as_warnings(plan):
            self._say(line)

    def step(self, number: int, total: int, step: Step) -> None:
        """Show the command before it runs; of a shell program, what it is for."""
        what = step.waits_for or (step.why if step.argv[0] == "sh" else shlex.join(step.argv))
        self._say(f"[{number}/{total}] {step.phase.label}: {what}")

    def waiting(self, name: str, seconds: float) -> None:
        """Nothing to say: the step said what is awaited."""

    def undo(self, argv: Argv) -> None:
        """Show the command before it runs."""
        self._say(f"[undo] {shlex.join(argv)}")

    def undo_failed(self, argv: Argv, error: CablectlError) -> None:
        """Say what a person has to look at."""
        self._say(f"[undo] not undone, {error.message}: {shlex.join(argv)}")

    def close(self) -> None:
        """Nothing is left open."""

    def _say(self, line: str) -> None:
        print(line, file=self._stream, flush=True)


class LiveProgress(LineProgress):
    """One moving line on a terminal; what is undone stays on the screen."""

    def __init__(self, stream: TextIO) -> None:
        super().__init__(stream)
        self._console = console(stream)
        self._status = self._console.status("reading this host")
        self._status.start()

    def step(self, number: int, total: int, step: Step) -> None:
        """Show why, which is shorter than what."""
        self._show(f"{number}/{total} {step.phase.label}: {step.why}")

    def waiting(self, name: str, seconds: float) -> None:
        """Show how long it takes."""
        self._show(f"wait {seconds:.0f} s for {name}")

    def close(self) -> None:
        """Leave the terminal as it was."""
        self._status.stop()

    def _show(self, text: str) -> None:
        from rich.text import Text

        self._status.update(Text(text))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def progress(stream: TextIO) -> LineProgress:
    """Return the progress that suits the stream."""
    return LiveProgress(stream) if stream.isatty() else LineProgress(stream)


def as_warnings(plan: Plan) -> list[str]:
    """Return the plan's warnings, a line each."""
    return [f"cablectl: warning: {warning}" for warning in plan.warnings]


def as_error(error: CablectlError, stream: TextIO) -> str:
    """Return the error as text: one line, what a command printed below it, and what to do."""
    red, plain = ("\x1b[31m", "\x1b[0m") if _has_colour(stream) else ("", "")
    lines = [f"{red}cablectl:{plain} {error.message}"]
    lines += [f"  {line}" for line in error.details]
    lines += [f"  try: {error.hint}"] if error.hint else []
    return "\n".join(lines)


def as_summary(plan: Plan) -> str:
    """Return what is now true of the cable, in one line."""
    cable, verb = plan.cable, "nothing to do: " if not plan.needed else ""
    if plan.action is Action.TEARDOWN:
        return f"{verb}no trace of the cable to {cable.remote.cluster} is left"
    waited = any(step.waits_for for step in plan.steps)
    if cable.mode is Mode.NONE:
        state = "up, in clear text"
    elif waited:
        state = f"up, encrypted by ESP in {cable.mode} mode"
    else:
        state = "made; not waited for its SAs"
    device = f" ({cable.overlay.device}, VTEP {cable.local_vtep.ip})" if cable.overlay else ""
    started = "; pluto was started" if any(s.phase is Phase.PLUTO for s in plan.needed) else ""
    return f"{verb}the cable to {cable.remote.cluster} is {state}{device}{started}"


def as_file(value: dict[str, Any], sources: list[str]) -> str:
    """Return a file as YAML, with the names of what it was made from."""
    import yaml

    text = yaml.safe_dump(value, sort_keys=False, default_flow_style=None, width=100)
    names = (each if each.isprintable() else ascii(each) for each in sources)
    return f"# Made from {', '.join(names)}\n{text}"


def _title(plan: Plan) -> str:
    cable = plan.cable
    ends = f"{cable.local.cluster} to {cable.remote.cluster}"
    return f"{plan.action} {ends}" + (
        f", for Libreswan {plan.facts.libreswan}" if cable.connections else ""
    )


def _script(plan: Plan) -> Iterator[str]:
    yield "#!/bin/sh"
    yield f"# cablectl: {_title(plan)}. Run as root."
    yield from (f"# assumed: {each}" for each in plan.facts.assumed)
    yield from (f"# warning: {each}" for each in plan.warnings)
    if plan.action is Action.CONNECT:
        yield "set -eu  # stop at the first failure"

    else:
        yield "# What is missing already is fine: each command runs, whatever the one before said."
    for phase, steps in groupby(plan.steps, key=lambda step: step.phase):
        yield ""
        yield f"# {phase.value}"
        for step in steps:
            command = shlex.join(step.argv)
            yield f"# not needed ({step.not_needed}): {command}" if step.not_needed else command


def console(stream: TextIO) -> "Console":
    """Return what draws on a stream: no colour where it is no terminal, no guesses at words."""
    from rich.console import Console

    return Console(file=stream, highlight=False)


def draw(stream: TextIO, *what: "RenderableType") -> None:
    """Print what rich draws, without the blanks with which it fills each line."""
    to = console(stream)
    with to.capture() as drawn:
        to.print(*what, sep="\n")
    for line in drawn.get().splitlines():
        print(line.rstrip(), file=stream)


def _has_colour(stream: TextIO) -> bool:
    """Tell whether colour is welcome: on a terminal, unless NO_COLOR is set (no-color.org)."""
    if not stream.isatty():
        return False
    terminal = console(stream)
    return terminal.color_system is not None and not terminal.no_color
