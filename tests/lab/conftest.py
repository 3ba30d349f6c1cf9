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
            for name, address in (("c1", "172.18.0.8/16"), ("c2", "172.18.0.7/16")):
                lab.gateway(name, address).start_pluto()
        except LabError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        yield lab
