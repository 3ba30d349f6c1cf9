"""Errors as text, and the console that draws reports; rich costs 20 ms, so it is imported late."""

from typing import TYPE_CHECKING, TextIO

from cablectl.errors import CablectlError

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def as_error(error: CablectlError, stream: TextIO) -> str:
    """Return the error as text: the message, the details below it, and the hint."""
    red, plain = ("\x1b[31m", "\x1b[0m") if _has_colour(stream) else ("", "")
    lines = [f"{red}cablectl:{plain} {error.message}"]
    lines += [f"  {line}" for line in error.details]
    lines += [f"  try: {error.hint}"] if error.hint else []
    return "\n".join(lines)


def console(stream: TextIO) -> "Console":
    """Return rich's console for a stream: colour only on a terminal, no guessed highlights."""
    from rich.console import Console

    return Console(file=stream, highlight=False)


def draw(stream: TextIO, *parts: "RenderableType") -> None:
    """Print what rich draws, without the blanks at the end of each line."""
    to = console(stream)
    with to.capture() as drawn:
        to.print(*parts, sep="\n")
    for line in drawn.get().splitlines():
        print(line.rstrip(), file=stream)


def _has_colour(stream: TextIO) -> bool:
    """Return whether to use colour: on a terminal, unless NO_COLOR is set (no-color.org)."""
    if not stream.isatty():
        return False
    terminal = console(stream)
    return terminal.color_system is not None and not terminal.no_color
