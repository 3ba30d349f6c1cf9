"""Doctor: evidence → findings. A case is a file: how it differs from a healthy host, what is found.

`of` is the shape of the cable's file, or null without one; `facts` is what stands of the cable.
`filters` is the capture of a host's packet filter.
"""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from cablectl.config import native
from cablectl.doctor import checks
from cablectl.doctor.evidence import CableEvidence, HostEvidence
from cablectl.doctor.finding import Finding, FindingState
from cablectl.model.cable import Cable
from tests.support.captures import filters
from tests.support.documents import document
from tests.support.hosts import ENDS, HOST
from tests.support.places import CASES
from tests.support.standing import facts

DOCTOR = sorted((CASES / "doctor").glob("*.json"))
SHAPE = "transport vxlan v4"


def found(case: dict[str, Any]) -> tuple[Finding, ...]:
    """Return what is found in a case."""
    host = msgspec.convert({**HOST, **case.get("host", {})}, HostEvidence)
    if "filters" in case:
        host = replace(host, firewall=filters(case["filters"]))
    shape = case.get("of", SHAPE)
    if shape is None:
        return checks.check_host(host)
    cable = described(shape)
    ends = msgspec.convert({**ENDS, **case.get("ends", {})}, CableEvidence, strict=False)
    if standing := case.get("facts", "up"):
        ends = replace(ends, facts=facts(cable, standing))
    return checks.check_cable(host, cable, ends)


def described(of: str) -> Cable:
    """Return the cable of a file of that shape, with a line more behind a +."""
    shape, _, line = of.partition(" + ")
    network = native.parse(f"{document(shape)}{line}\n", of)
    (cable,) = network.cables(network.named("cluster1"))
    return cable


def told(findings: tuple[Finding, ...]) -> list[dict[str, str]]:
    """Return those that aren't fine, as a case has them."""
    return [msgspec.to_builtins(each) for each in findings if each.state is not FindingState.OK]


@pytest.mark.parametrize("path", DOCTOR, ids=lambda path: path.stem)
def test_case(path: Path) -> None:
    case = json.loads(path.read_text())
    findings = found(case)
    assert told(findings) == case["findings"]
    assert all(each.fix for each in findings if each.state is not FindingState.OK)
    assert not any(each.fix for each in findings if each.state is FindingState.OK)
    lines = [line for each in findings for line in (each.evidence, each.fix)]
    assert not any("\n" in line for line in lines)


ANSWERED = {"answer": "SA"}


@pytest.mark.parametrize(
    ("case", "check", "evidence"),
    [
        ({"ends": {"log": {"x": ""}}}, "negotiation", "pluto's log has no refusal in the last"),
        (
            {"host": {"daemons": []}, "ends": {"log": {"x": ""}}},
            "negotiation",
            "skipped: pluto isn't running",
        ),
        (
            {"ends": {"replies": {4500: ANSWERED, 500: {"refused": True}}}},
            "peer",
            "172.18.0.7 UDP 500 is closed; the cable doesn't use it",
        ),
        ({}, "rp_filter", "effective rp_filter on eth0: 0, vxlan-tunnel: 2"),
        ({}, "firewall", "no packet filter besides cablectl's"),
    ],
)
def test_what_is_fine(case: dict[str, Any], check: str, evidence: str) -> None:
    fine = [each for each in found(case) if each.state is FindingState.OK and each.check == check]
    assert fine[-1].evidence.startswith(evidence)
