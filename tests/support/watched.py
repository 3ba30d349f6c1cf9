"""What a host has while a watch keeps its cables: each reading, and what is taken away."""

from collections.abc import Callable, Sequence

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Facts
from cablectl.host import reading
from cablectl.linux import guard_file
from cablectl.model.cable import Cable
from cablectl.run import journal

Reading = tuple[Facts, ...] | CablectlError


class Readings:
    """What each reading of the host finds; the last one stays."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left: list[Reading] = []
        self.before: Callable[[], object] = lambda: None  # what happens before a reading
        monkeypatch.setattr(reading, "facts_of", self._read)

    def are(self, *readings: Reading) -> None:
        self.left = list(readings)

    def _read(self, cables: Sequence[Cable]) -> tuple[Facts, ...]:
        self.before()
        found = self.left.pop(0) if len(self.left) > 1 else self.left[0]
        if isinstance(found, CablectlError):
            raise found
        assert len(found) == len(cables)
        return found


def in_own_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put the files by which a watch holds cables into the folder of the test."""
    monkeypatch.setattr(guard_file, "DIRECTORY", str(journal.DIRECTORY))


def unrouted(facts: Facts) -> Facts:
    """Return the facts after another program has deleted the cable's routes."""
    return replace(facts, overlay=replace(facts.overlay, routes=frozenset()))
