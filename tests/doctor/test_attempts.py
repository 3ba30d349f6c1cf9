"""Where pluto's log of an attempt begins, in the words of each release."""

import msgspec
import pytest

from cablectl.doctor.cable_checks import check_negotiation
from cablectl.doctor.evidence import CableEvidence, HostEvidence
from tests.support.captures import by_release
from tests.support.hosts import ENDS, HOST

NAME = "submariner-cable-cluster2-172-18-0-7-0"
FAILED = f'"{NAME}" #1: authentication failed'
SKIPPED = f'"{NAME}": interface search skipped interface eth0 as it does not have nic-offload'
NEITHER = "(neither left=172.18.0.8 nor right=172.18.0.7 match an interface)"


def found(*lines: str) -> list[str]:
    host = msgspec.convert(HOST, HostEvidence)
    ends = msgspec.convert({**ENDS, "log": {NAME: "\n".join(lines)}}, CableEvidence, strict=False)
    return [finding.evidence for finding in check_negotiation(host, ends)]


NOTHING = ["pluto's log has no refusal in the last attempt"]


@pytest.mark.parametrize(
    "line",
    [
        f'added IKEv2 connection "{NAME}"',  # 4.0
        f'"{NAME}": added IKEv2 connection',  # up to 5.2
        f'"{NAME}": added oriented IKEv2 connection',  # 5.4
        f'"{NAME}": oriented IKEv2 connection (local: left=172.18.0.8 remote: right=172.18.0.7)',
        f'"{NAME}" #3: responder established Child SA using #1; IPsec transport',
        f'002 "{NAME}" #2: IPsec SA established transport mode {{ESP=>0x1 <0x2}}',  # up to 4.4
    ],
)
def test_what_was_before_an_attempt_is_over(line: str) -> None:
    assert found(FAILED, line) == NOTHING
    (after,) = found(line, FAILED)
    assert after.startswith("authentication failed")


def test_an_unoriented_connection_begins_an_attempt_too() -> None:
    (finding,) = found(FAILED, f'"{NAME}": added unoriented IKEv2 connection {NEITHER}')
    assert "neither of the connection's addresses" in finding


def test_the_reason_is_logged_before_the_connection_is_added() -> None:
    added = f'"{NAME}": added unoriented IKEv2 connection {NEITHER}'
    (finding,) = found(FAILED, f"{SKIPPED} support", added)
    assert finding.startswith("eth0 has no ESP offload")


@pytest.mark.parametrize("release", by_release("unoriented"))
def test_every_release_logs_an_attempt_that_is_known(release: str) -> None:
    (_, added), *_ = by_release("unoriented")[release]
    line = added.replace(" unoriented ", " ").splitlines()[-1].partition(" (")[0]
    assert found(FAILED, line) == NOTHING
