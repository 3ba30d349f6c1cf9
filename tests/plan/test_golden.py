"""The commands, byte for byte, from both ends and for each dialect."""

from pathlib import Path

import pytest

from cablectl.facts.host_facts import Facts, connected
from cablectl.libreswan.dialects import parse_version
from cablectl.plan import connect_plan, teardown_plan
from cablectl.render import plans
from tests.conftest import load, load_all
from tests.support.documents import SHAPES, meshed

GOLDEN = Path(__file__).parent.parent / "golden"
ENDS = ("cluster1", "cluster2")
# action, example or shape, local end, Libreswan
NAMES = (
    [
        f"{action}_{example}_{end}_{version}"
        for action, example, versions in (
            ("connect", "proposal", ("4.10",)),
            ("connect", "quickstart", ("4.10", "5.2", "5.3")),
            ("teardown", "quickstart", ("4.10",)),
            ("teardown", "tunnel-v4", ("4.10",)),
            ("teardown", "transport-gre-v6", ("4.10",)),
            ("connect", "tunnel-v4", ("5.2",)),
            ("connect", "transport-gre-v6", ("5.3",)),
        )
        for end in ENDS
        for version in versions
    ]
    + [
        f"{action}_mesh_{end}_{version}"
        for action, version in (("connect", "4.10"), ("connect", "5.2"), ("teardown", "4.10"))
        for end in (*ENDS, "cluster3")
    ]
    + [f"connect_{shape.replace(' ', '-')}_{end}_4.10" for shape in SHAPES for end in ENDS]
)

# The proposal's own lines, written out here and not taken from a file that could be made anew.
PROPOSAL = """\
ipsec whack --psk --encrypt --forceencaps --name submariner-cable-cluster2-172-18-0-7-0 \
--host 172.18.0.8 --clientprotoport udp/vxlan --ikeport 4500 \
--to --host 172.18.0.7 --clientprotoport udp --ikeport 4500
ipsec whack --psk --encrypt --forceencaps --name submariner-cable-cluster2-172-18-0-7-1 \
--host 172.18.0.8 --clientprotoport udp --ikeport 4500 \
--to --host 172.18.0.7 --clientprotoport udp/vxlan --ikeport 4500
ipsec whack --route --name submariner-cable-cluster2-172-18-0-7-0
ipsec whack --route --name submariner-cable-cluster2-172-18-0-7-1
ipsec whack --initiate --asynchronous --name submariner-cable-cluster2-172-18-0-7-0
ipsec whack --initiate --asynchronous --name submariner-cable-cluster2-172-18-0-7-1
"""


def mirrored(lines: str) -> str:
    """Return what the other end runs."""
    swaps = {"cluster2-172-18-0-7": "cluster1-172-18-0-8", "172.18.0.8": "172.18.0.7"}
    for i, (one, other) in enumerate(swaps.items()):
        lines = lines.replace(one, f"<{i}>").replace(other, one).replace(f"<{i}>", other)
    return lines


@pytest.mark.parametrize(
    ("local", "expected"), [("cluster1", PROPOSAL), ("cluster2", mirrored(PROPOSAL))]
)
def test_the_proposal(local: str, expected: str) -> None:
    plan = connect_plan.plan((load("proposal", local),), (Facts(libreswan=parse_version("4.10")),))
    script = plans.as_script(plan).splitlines(keepends=True)
    kinds = ("--psk", "--route", "--initiate")
    assert "".join(line for line in script if line.split()[2:3] and line.split()[2] in kinds) == (
        expected
    )


@pytest.mark.parametrize("name", NAMES)
def test_scripts(name: str) -> None:
    assert (GOLDEN / f"{name}.sh").read_text() == script_of(name)


def script_of(name: str) -> str:
    """Return the script that a golden file's name asks for."""
    action, example, local, version = name.split("_")
    shape = example.replace("-", " ")
    cables = meshed(shape, local) if shape in SHAPES else load_all(example, local)
    facts = Facts(libreswan=parse_version(version))
    if action == "teardown":
        made = tuple(connected(cable, facts, 1408) for cable in cables)
        return plans.as_script(teardown_plan.plan(cables, made))
    return plans.as_script(connect_plan.plan(cables, (facts,) * len(cables)))
