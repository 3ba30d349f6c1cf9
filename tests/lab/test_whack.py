"""Every planned whack command passes whack's own parser; without a control socket it does no more.

The releases are this machine's Libreswan, and the Libreswan in the root that tests/lab/root makes.
"""

from __future__ import annotations

import re
import subprocess

import pytest

from cablectl.facts.host_facts import Facts
from cablectl.libreswan import dialects, pluto_commands
from cablectl.model.argv import Argv
from cablectl.plan import connect_plan
from tests.support.documents import SHAPES, shaped
from tests.support.examples import load

from .gateways import ROOTS

pytestmark = pytest.mark.lab

NOWHERE = ("--ctlsocket", "/nonexistent")
RELEASES = ("4.10", "5.2")


def commands(release: str) -> list[Argv]:
    """Return every whack command of every shape's plan and of the plan's undo, without repeats."""
    facts = Facts(libreswan=dialects.parse_version(release))
    cables = [shaped(shape, end) for shape in SHAPES for end in ("cluster1", "cluster2")]
    cables += [load("quickstart", end) for end in ("cluster1", "cluster2")]
    steps = [step for cable in cables for step in connect_plan.plan((cable,), (facts,)).steps]
    argvs = [argv for step in steps for argv in (step.argv, *step.undo)]
    return list(dict.fromkeys(argv for argv in argvs if argv[:2] == pluto_commands.WHACK))


def output_of(release: str, argv: Argv) -> str:
    """Return whack's output for a command that it can't send to pluto."""
    whack = ("chroot", ROOTS[release], "ipsec", "whack", *NOWHERE, *argv[2:])
    done = subprocess.run(whack, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("release", RELEASES)
def test_every_flag_is_recognised(release: str) -> None:
    outputs = {argv: output_of(release, argv) for argv in commands(release)}
    assert {argv: text for argv, text in outputs.items() if not is_accepted(text)} == {}


def is_accepted(text: str) -> bool:
    """Tell whether whack accepted the options, and then missed pluto's control socket."""
    return re.search(r"[Pp]luto is not running", text) is not None


def test_an_option_of_the_other_release_is_refused() -> None:
    (first, *_) = commands("4.10")
    assert "unrecognized option" in output_of("5.2", (*first, "--forceencaps"))
    assert "unrecognized option" in output_of("4.10", (*first, "--transport"))
