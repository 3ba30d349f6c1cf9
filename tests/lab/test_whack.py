"""Every planned command, fed to whack's own parser: without a control socket it does no more.

On this machine's Libreswan, and on that of tests/lab/root where it was made.
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
    """Return every whack command of every shape's plan, and of its undo, each once."""
    facts = Facts(libreswan=dialects.parse_version(release))
    cables = [shaped(shape, end) for shape in SHAPES for end in ("cluster1", "cluster2")]
    cables += [load("quickstart", end) for end in ("cluster1", "cluster2")]
    steps = [step for cable in cables for step in connect_plan.plan((cable,), (facts,)).steps]
    every = (argv for step in steps for argv in (step.argv, *step.undo))
    return list(dict.fromkeys(argv for argv in every if argv[:2] == pluto_commands.WHACK))


def said(release: str, argv: Argv) -> str:
    """Return what whack says of a command, when it can't pass it on."""
    whack = ("chroot", ROOTS[release], "ipsec", "whack", *NOWHERE, *argv[2:])
    done = subprocess.run(whack, capture_output=True, text=True, check=False)
    return done.stdout + done.stderr


@pytest.mark.parametrize("release", RELEASES)
def test_every_flag_is_recognised(release: str) -> None:
    refused = {
        argv: text for argv in commands(release) if not passed_on(text := said(release, argv))
    }
    assert refused == {}


def passed_on(text: str) -> bool:
    return re.search(r"[Pp]luto is not running", text) is not None


def test_a_flag_of_the_other_release_is_not() -> None:
    (first, *_) = commands("4.10")
    assert "unrecognized option" in said("5.2", (*first, "--forceencaps"))
    assert "unrecognized option" in said("4.10", (*first, "--transport"))
