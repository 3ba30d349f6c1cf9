"""Errors as text, and the console that draws reports; rich costs 20 ms, so it is imported late."""

import shutil
from typing import TYPE_CHECKING, TextIO

from cablectl.errors import CablectlError

LEAST, MOST = 20, 1000  # columns that a table needs, and that a screen may have

if TYPE_CHECKING:
    from rich.console import Console, RenderableType


def as_error(error: CablectlError, stream: TextIO) -> str:
    """Return the error as text: the message, the details below it, and the hint."""
    red, plain = ("\x1b[31m", "\x1b[0m") if _has_colour(stream) else ("", "")
    lines = [f"{red}cablectl:{plain} {printable(error.message)}"]
    lines += [f"  {printable(line)}" for line in error.details]
    lines += [f"  try: {printable(error.hint)}"] if error.hint else []
    return "\n".join(lines)


def printable(text: str) -> str:
    """Return a text in one line that no terminal obeys: the names of files may hold anything."""
    if text.isprintable():
        return text
    text = text.expandtabs()
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)


def console(stream: TextIO) -> "Console":
    """Return rich's console for a stream: colour only on a terminal, no guessed highlights.

    rich would take COLUMNS=0, which some terminals set, for a width without room.
    """
    from rich.console import Console

    found = Console(file=stream, highlight=False)
    if not LEAST <= found.width <= MOST:
        columns = shutil.get_terminal_size().columns  # 80, if neither says more than 0
        found.width = min(max(columns, LEAST), MOST)
    return found


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
