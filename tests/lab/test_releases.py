"""Libreswan 5.2 with 5.2 and with 4.10: one file, and each release's own whack options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.support.documents import AGREED, document, shaped

from .cable import FILE, run
from .gateways import Lab
from .rooms import LabError
from .traffic import bring_up_and_tear_down

pytestmark = pytest.mark.lab

SHAPES = (
    "transport vxlan v4",
    "transport gre v6",
    "transport ipip v4",
    "transport ipip v6",
    "tunnel v4",
    "tunnel v4 server",
)


@pytest.fixture(scope="module", params=[("5.2", "5.2"), ("4.10", "5.2")], ids=" with ".join)
def lane(request: pytest.FixtureRequest) -> Iterator[tuple[Lab, tuple[str, str]]]:
    """Two gateways on one switch, each with its release of Libreswan."""
    with ExitStack() as stack:
        try:
            lab = stack.enter_context(Lab())
            for i, (last, release) in enumerate(zip((8, 7), request.param, strict=True), start=1):
                addresses = (f"172.18.0.{last}/16", f"2001:db8::{last}/64")
                lab.gateway(f"c{i}", *addresses, release).start_pluto()
        except LabError as error:
            raise pytest.fail.Exception(str(error), pytrace=False) from None
        yield lab, request.param


@pytest.mark.parametrize("shape", SHAPES)
def test_from_connect_to_teardown(lane: tuple[Lab, tuple[str, str]], shape: str) -> None:
    lab, releases = lane
    cables = (shaped(shape, end) for end in ("cluster1", "cluster2"))
    text = document(shape) + (AGREED if len(set(releases)) > 1 else "")
    bring_up_and_tear_down(lab, tuple(zip(lab.gateways, cables, strict=True)), text)
    for gateway, release in zip(lab.gateways, releases, strict=True):
        assert gateway.run("ipsec", "--version").stdout.split()[-1] == release
        planned = run(gateway, "plan", FILE, "--format", "sh").stdout
        assert (" --forceencaps " in planned) == (release == "4.10")
        assert (" --encaps yes " in planned) == (release == "5.2")
        assert (f" --{shape.split()[0]} " in planned) == (release == "5.2")
