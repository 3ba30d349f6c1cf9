from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .gateways import Lab


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    """Two gateways on one switch, with a pluto each."""
    if os.geteuid() != 0:
        pytest.fail("the lab needs root: run it by tests/lab/boot", pytrace=False)
    with Lab() as lab:
        for name, address in (("c1", "172.18.0.8/16"), ("c2", "172.18.0.7/16")):
            lab.gateway(name, address).start_pluto()
        yield lab
