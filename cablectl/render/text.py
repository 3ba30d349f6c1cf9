"""Errors as text, and what every report is drawn with; rich costs 20 ms, so it is imported late."""

from typing import TYPE_CHECKING, TextIO

from cablectl.errors import CablectlError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def as_error(error: CablectlError, stream: TextIO) -> str:
    """Return the error as text: one line, what a command printed below it, and what to do."""
    red, plain = ("\x1b[31m", "\x1b[0m") if _has_colour(stream) else ("", "")
    lines = [f"{red}cablectl:{plain} {error.message}"]
    lines += [f"  {line}" for line in error.details]
    lines += [f"  try: {error.hint}"] if error.hint else []
    return "\n".join(lines)


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
