from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager

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


@contextmanager
def two_gateways(*releases: str) -> Iterator[Lab]:
    """Make c1 and c2, each with its Libreswan."""
    with Lab() as lab:
        for name, last, release in zip(("c1", "c2"), (8, 7), releases, strict=True):
            lab.gateway(name, f"172.18.0.{last}/16", f"2001:db8::{last}/64", release)
        yield lab
