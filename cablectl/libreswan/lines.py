"""What the parsers of pluto's lines share: all releases of 4 begin a line with a number."""

import re
from collections.abc import Iterator

NUMBER = r"^(?:\d{3} )?"


def matches(pattern: str, text: str) -> Iterator[re.Match[str]]:
    """Yield the match of each line that begins with the pattern."""
    return (match for line in text.split("\n") if (match := re.match(pattern, line)))
