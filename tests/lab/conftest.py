from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from .gateways import Lab
from .rooms import LabError


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two gateways on one switch, with a pluto each."""
    with ExitStack() as stack:
        try:
            lab = stack.enter_context(Lab())
            for name, last in (("c1", 8), ("c2", 7)):
                lab.gateway(name, f"172.18.0.{last}/16", f"2001:db8::{last}/64").start_pluto()
        except LabError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        yield lab
