"""Certificates that the peer's pluto refuses: both gateways say why, and nothing is left behind."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from tests.support.certificates import Made

from . import extent
from .cable import FILE, run, tear_down, until_it_waits
from .certs import (
    DIRECTORY,
    HOUR,
    NAME,
    STORE,
    document,
    hand_out,
    issue,
    new_authority,
    now,
    unchanged,
)
from .gateways import Gateway, Lab, two_gateways
from .rooms import PROGRAM

pytestmark = pytest.mark.lab
CRL = f"crl: {DIRECTORY}/crl.pem"
SLOW = pytest.mark.skipif(not extent.ALL, reason="make rotation")
PAIRS = [("4.10", "5.2"), pytest.param(("5.2", "4.10"), marks=SLOW)]
BY_PEER = "authentication failed"


@pytest.fixture(scope="module")
def above() -> Made:
    """Return the one authority of all cases, since 4.10 sees another one five minutes later."""
    return new_authority()


@pytest.fixture(scope="module", params=PAIRS, ids="-".join)
def lab(request: pytest.FixtureRequest) -> Iterator[Lab]:
    """c2 initiates."""
    with two_gateways(*request.param) as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
            gateway.write(FILE, document())
        yield lab


def why(err: str) -> str:
    """Return connect's error, without the steps before it."""
    return err[err.rindex("cablectl: ") :].splitlines()[0]


def connect_both(lab: Lab, late: float = 0) -> tuple[str, str]:
    """Run connect on both gateways, on c1 `late` seconds later; return why each one failed.

    c1 waits longer: it is there when c2 asks for the last time.
    """
    c1, c2 = lab.gateways
    limit = 8 + 1.2 * late
    second = c2.popen(PROGRAM, "connect", FILE, "--timeout", f"{limit:.0f}")
    time.sleep(late)
    # It would ask when half of its time is over: by then the other end has given up.
    first = c1.popen(PROGRAM, "connect", FILE, "--timeout", f"{limit + 40:.0f}")
    errors = [process.communicate(timeout=150)[1] for process in (first, second)]
    print(*errors, sep="\n")  # pytest shows it if the test fails
    assert first.returncode, errors
    assert second.returncode, errors
    return why(errors[0]), why(errors[1])


def own(gateway: Gateway, above: Made) -> Made:
    return issue(above, NAME[gateway.name])


def test_revoked(lab: Lab, above: Made) -> None:
    """First, since NSS caches lists. c2 has none: it would refuse its own certificate."""
    c1, c2 = lab.gateways
    theirs = own(c2, above)
    crl = above.revoke({theirs.certificate.serial: now() - HOUR}, now() + 24 * HOUR).pem
    hand_out(c1, own(c1, above), trusted=above, crl=crl)
    hand_out(c2, theirs, trusted=above)
    with unchanged(lab):
        c1.write(FILE, document(cert=CRL))
        first, second = connect_both(lab)
        c1.write(FILE, document())
    assert "the certificate of the peer is revoked" in first
    assert BY_PEER in second


def mix(lab: Lab, above: Made, wrong: Gateway) -> None:
    """Give one gateway the certificate of an authority that the other one doesn't trust."""
    other = new_authority("other")
    for gateway in lab.gateways:
        hand_out(gateway, own(gateway, other if gateway is wrong else above), trusted=above)
    wrong.write(f"{DIRECTORY}/ca.pem", (above.pem + other.pem).decode())


def test_another_authority(lab: Lab, above: Made) -> None:
    mix(lab, above, lab.gateways[1])
    with unchanged(lab):
        first, second = connect_both(lab)
    assert "of an authority that this host doesn't trust" in first
    assert BY_PEER in second


@SLOW
def test_another_authority_of_the_end_that_answers(lab: Lab, above: Made) -> None:
    """c1 may take the SA for up, or say that c2 gave up, since 4.10 doesn't tell its refusal."""
    c1, _ = lab.gateways
    mix(lab, above, c1)
    with unchanged(lab):
        first, second = (
            gateway.popen(PROGRAM, "connect", FILE, "--timeout", "4") for gateway in lab.gateways
        )
        _, told = first.communicate(timeout=150)
        _, err = second.communicate(timeout=150)
        assert "of an authority that this host doesn't trust" in why(err)
        assert first.returncode == 0 or "no Child SA" in why(told), told
        tear_down(c1)


@SLOW
def test_expired(lab: Lab, above: Made) -> None:
    """It expires while c2 waits for c1; c2 wouldn't begin with an expired one."""
    c1, c2 = lab.gateways
    hand_out(c1, own(c1, above), trusted=above)
    hand_out(c2, issue(above, NAME["c2"], end=12 / 3600), trusted=above)
    with unchanged(lab):
        first, second = connect_both(lab, late=13)
    assert "the certificate of the peer is expired or not yet valid" in first
    assert BY_PEER in second


def test_another_name(lab: Lab, above: Made) -> None:
    """c2 refuses its own certificate, but the script checks nothing."""
    c1, c2 = lab.gateways
    hand_out(c1, own(c1, above), trusted=above)
    hand_out(c2, issue(above, "gw3.example"), trusted=above)
    with unchanged(lab):
        assert "isn't for DNS:gw2.example" in run(c2, "connect", FILE).stderr
        script = run(c2, "connect", FILE, "--dry-run", "--local", "cluster2", "--no-wait").stdout
        c2.write("/run/connect.sh", script)
        c2.run("sh", "/run/connect.sh")
        done = run(c1, "connect", FILE, "--timeout", "4")
        assert "the certificate of the peer has another name" in why(done.stderr)
        tear_down(c2)


@SLOW
def test_no_key(lab: Lab, above: Made) -> None:
    """The key goes while c2 waits for c1. c2's pluto itself doesn't say why it can't sign."""
    c1, c2 = lab.gateways
    hand_out(c1, own(c1, above), trusted=above)
    hand_out(c2, own(c2, above), trusted=above)
    with unchanged(lab):
        connect = c2.popen(PROGRAM, "connect", FILE, "--timeout", "14")
        until_it_waits(connect)
        c2.run("certutil", "-F", "-d", STORE, "-n", f"cablectl-{DIRECTORY}/cert.pem")
        c2.whack("--rereadsecrets")
        first = run(c1, "connect", FILE, "--timeout", "4")
        _, err = connect.communicate(timeout=150)
        assert BY_PEER in why(first.stderr)
        assert BY_PEER in why(err)
