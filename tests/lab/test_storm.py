"""Eight gateways that start in the same second, twice, and again after all plutos were killed."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .extent import ALL
from .storm import RELEASES, report, storm

pytestmark = pytest.mark.lab

COUNT = 8


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("release", RELEASES if ALL else ["mixed"])
def test_every_pair_pings_when_connect_says_so(
    release: str, record_property: Callable[[str, object], None]
) -> None:
    with storm(COUNT, release) as made:
        for run in (made.start, made.kill):
            outcome = run()
            record_property(f"{COUNT} gateways, {release}, {outcome.kind}", outcome.row())
            if not outcome.is_clean:
                report(made, outcome)
            assert outcome.is_clean, outcome.row()
