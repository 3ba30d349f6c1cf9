"""The commands, byte for byte, from both ends and for each dialect."""

import pytest

from cablectl.facts.host_facts import Facts
from cablectl.libreswan.dialects import parse_version
from cablectl.plan import connect_plan
from cablectl.render import plans
from tests.support.examples import load
from tests.support.golden import NAMES, script_of
from tests.support.places import GOLDEN

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
