"""How much of the lab is run: a choice in CI, or all with the variable LAB_ALL."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")

ALL = bool(os.environ.get("LAB_ALL"))  # whether the slow tests run as well


def chosen(cases: Sequence[T], first: int = 0, step: int = 3) -> Sequence[T]:
    """Return all cases with LAB_ALL; else every third one, or each of another step.

    Files that test the same shapes begin at different ones.
    """
    return cases if ALL else cases[first::step]
