"""How much of the lab is run: a choice in CI, or all with the variable LAB_ALL."""

from __future__ import annotations

import os
from collections.abc import Iterable

ALL = bool(os.environ.get("LAB_ALL"))  # whether the slow tests run as well


def chosen(shapes: Iterable[str]) -> list[str]:
    """Return all shapes with LAB_ALL; else, of shapes for IPv4 and IPv6, one and the other in turn.

    `make shapes` runs all of them.
    """
    versions: dict[str, list[str]] = {}
    for shape in shapes:
        versions.setdefault(shape.replace("v6", "v4"), []).append(shape)
    if ALL:
        return [shape for found in versions.values() for shape in found]
    return [found[place % len(found)] for place, found in enumerate(versions.values())]
