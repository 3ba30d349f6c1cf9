from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest

from . import releases
from .gateways import Lab, two_gateways
from .rooms import LabError


def pytest_configure() -> None:
    """Let no test begin if LAB_RELEASES is wrong."""
    try:
        releases.added()
    except LabError as error:
        raise pytest.UsageError(str(error)) from None


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup() -> Generator[None, object, object]:
    """Fail with the LabError's text and no traceback if a fixture can't make its gateways."""
    try:
        return (yield)
    except LabError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


@pytest.fixture(scope="module")
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """Two gateways on one switch; pluto runs on both.

    The parameter, if a test module gives one, has the Libreswan of each.
    """
    with two_gateways(*getattr(request, "param", ("4.10", "4.10"))) as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
        yield lab


@pytest.fixture(scope="module")
def lab_without_pluto() -> Iterator[Lab]:
    """Two gateways on one switch; no daemon runs, so the kernel has no policies and no SAs."""
    with two_gateways("4.10", "4.10") as lab:
        yield lab
