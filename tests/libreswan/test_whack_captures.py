"""The commands that real whacks took or refused, held against the commands that cablectl plans."""

import re
import shlex

import pytest

from cablectl.libreswan import whack
from cablectl.libreswan.dialects import parse_version
from cablectl.model.argv import Argv
from tests.support.documents import SHAPES, shaped
from tests.support.places import CAPTURES

Attempt = tuple[Argv, str, int]  # the command, what it printed, its exit code


def attempts(release: str) -> list[Attempt]:
    text = (CAPTURES / f"whack-exit-codes-{release}.txt").read_text()
    found = re.findall(r"^\$ (.*)\n((?:.*\n)*?)  -> rc=(\d+)$", text, re.MULTILINE)
    return [(tuple(shlex.split(line)), output, int(code)) for line, output, code in found]


def adds(release: str) -> list[Attempt]:
    """Return the attempts to add a connection, without those with an algorithm called bogus."""
    return [
        attempt
        for attempt in attempts(release)
        if "--to" in attempt[0] and "bogus" not in attempt[0]
    ]


def planned(release: str) -> list[Argv]:
    cables = [shaped(shape) for shape in (*SHAPES, "transport vxlan v4 pfs")]
    version = parse_version(release)
    return [whack.add(cable, one, version) for cable in cables for one in cable.connections]


def options(argv: Argv) -> set[str]:
    return {word for word in argv if word.startswith("--")}


@pytest.mark.parametrize("release", ["5.3.2", "5.4"])
def test_no_option_is_planned_that_is_refused(release: str) -> None:
    taken = {option for argv, _, code in adds(release) if code == 0 for option in options(argv)}
    refused = {option for argv, _, _ in adds(release) for option in options(argv)} - taken
    assert refused >= {"--forceencaps", "--pfsgroup", "--route", "--initiate"}
    assert not any(options(argv) & refused for argv in planned(release))


def test_a_loaded_connection_is_told_from_other_failures() -> None:
    tried = attempts("5.3.2") + attempts("5.4")
    assert 20 in {code for _, _, code in tried}
    for argv, output, code in tried:
        assert whack.is_already_loaded(output.splitlines()) == (code == 20), argv


def test_4_6_wants_a_timeout_with_the_delay() -> None:
    refused = (CAPTURES / "whack-4.6.txt").read_text().splitlines()[0].removeprefix("$ ")
    line = tuple(shlex.split(refused))
    assert "--dpddelay" in line
    assert "--dpdtimeout" not in line
    first, *_ = [argv for argv in planned("4.6") if "udp/4789" in argv and "--client" not in argv]
    assert options(first) == options(line) | {"--dpdtimeout", "--updown"}


@pytest.mark.parametrize("release", ["4.6", "4.10", "5.0", "5.2"])
def test_two_algorithms_have_the_group_in_the_form_that_was_taken(release: str) -> None:
    lines = (CAPTURES / "whack-pfs-two-esp.txt").read_text().splitlines()
    refused, taken = (shlex.split(line[2:])[3:] for line in lines if line.startswith("$ "))
    assert refused[:1] == taken[:1] == ["--pfs"]
    asked = [argv for argv in planned(release) if "--pfs" in argv]
    assert asked
    for argv in asked:
        assert "--pfsgroup" not in argv
        groups = {word.partition(";")[2] for word in argv[argv.index("--esp") + 1].split(",")}
        assert groups == {word.partition(";")[2] for word in taken[-1].split(",")} == {"modp2048"}
