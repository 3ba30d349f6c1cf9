"""Every planned whack command passes whack's own parser; without a control socket it does no more.

The releases are this machine's Libreswan, the Libreswan in the root that tests/lab/root makes, and
those of LAB_RELEASES.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import closing

import pytest

from cablectl.facts.host_facts import Facts
from cablectl.libreswan import pluto_commands
from cablectl.libreswan.dialects import Version
from cablectl.model.argv import Argv
from cablectl.plan import connect_plan
from tests.support.documents import SHAPES, shaped
from tests.support.examples import load

from .gateways import Gateway
from .releases import DEBIAN, installations, libreswans
from .rooms import LabError

pytestmark = pytest.mark.lab

NOWHERE = ("--ctlsocket", "/nonexistent")


@pytest.fixture(scope="module", params=libreswans())
def gateway(request: pytest.FixtureRequest) -> Iterator[Gateway]:
    """A gateway without pluto, named after its Libreswan."""
    try:
        with closing(Gateway(request.param, installations()[request.param])) as gateway:
            yield gateway
    except LabError as error:
        raise pytest.fail.Exception(str(error), pytrace=False) from None


def commands(version: Version) -> list[Argv]:
    """Return every whack command of every shape's plan and of the plan's undo, without repeats."""
    facts = Facts(libreswan=version)
    cables = [shaped(shape, end) for shape in SHAPES for end in ("cluster1", "cluster2")]
    cables += [load("quickstart", end) for end in ("cluster1", "cluster2")]
    steps = [step for cable in cables for step in connect_plan.plan((cable,), (facts,)).steps]
    argvs = [argv for step in steps for argv in (step.argv, *step.undo)]
    return list(dict.fromkeys(argv for argv in argvs if argv[:2] == pluto_commands.WHACK))


def output_of(gateway: Gateway, argv: Argv) -> str:
    """Return whack's output for a command that it can't send to pluto."""
    return gateway.whack(*NOWHERE, *argv[2:], check=False)


def test_every_flag_is_recognised(
    gateway: Gateway, record_property: Callable[[str, object], None]
) -> None:
    if gateway.name not in DEBIAN:
        record_property(gateway.name, gateway.version())
    outputs = {argv: output_of(gateway, argv) for argv in commands(gateway.release())}
    assert {argv: text for argv, text in outputs.items() if not is_accepted(text)} == {}


def is_accepted(text: str) -> bool:
    """Tell whether whack accepted the options, and then missed pluto's control socket."""
    return re.search(r"[Pp]luto is not running", text) is not None


def test_an_option_of_the_other_release_is_refused() -> None:
    (first, *_) = commands(Version(4, 10))
    for name, option in (("5.2", "--forceencaps"), ("4.10", "--transport")):
        with closing(Gateway(name, installations()[name])) as gateway:
            assert "unrecognized option" in output_of(gateway, (*first, option))
