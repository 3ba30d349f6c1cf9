from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from . import releases
from .gateways import Lab
from .rooms import LabError


def pytest_configure() -> None:
    """Let no test begin if LAB_RELEASES is wrong."""
    try:
        releases.added()
    except LabError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two gateways on one switch; pluto runs on both.

    The parameter, if a test module gives one, is the Libreswan of both.
    """
    with _two_gateways(getattr(request, "param", "4.10"), pluto=True) as lab:
        yield lab


@pytest.fixture(scope="module")
def lab_without_pluto() -> Iterator[Lab]:
    """Two gateways on one switch; no daemon runs, so the kernel has no policies and no SAs."""
    with _two_gateways("4.10", pluto=False) as lab:
        yield lab


@contextmanager
def _two_gateways(release: str, *, pluto: bool) -> Iterator[Lab]:
    """Make c1 and c2; if that fails, the test fails with the LabError's text and no traceback."""
    with ExitStack() as stack:
        try:
            lab = stack.enter_context(Lab())
            for name, last in (("c1", 8), ("c2", 7)):
                addresses = (f"172.18.0.{last}/16", f"2001:db8::{last}/64")
                gateway = lab.gateway(name, *addresses, release)
                if pluto:
                    gateway.start_pluto()
        except LabError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        yield lab
