"""A server in tunnel mode whose client is away: the cable stays, and waits."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from cablectl.errors import CablectlError, ClientAwayError
from cablectl.facts.host_facts import Facts, connected
from cablectl.host.pluto_log import PlutoLog
from cablectl.model.cable import Cable
from cablectl.model.wishes import Clamp
from cablectl.plan import connect_plan
from cablectl.plan.steps import Plan
from tests.support.documents import meshed
from tests.support.executor import Told, in_turn
from tests.support.mesh_host import Host, apply, blank
from tests.support.plans import BLANK

SHAPES = ["tunnel v4 server", "tunnel v4 server mesh", "tunnel vxlan v4 nat server"]


@pytest.fixture(params=SHAPES)
def cables(request: pytest.FixtureRequest) -> tuple[Cable, ...]:
    return tuple(replace(cable, mss=Clamp.OFF) for cable in meshed(request.param, "cluster2"))


def left(cables: tuple[Cable, ...]) -> Plan:
    """Return the plan for a host on which only the first client is missing."""
    first, *others = (connected(cable, BLANK, 1388) for cable in cables)
    return connect_plan.plan(cables, (without_client(first), *others))


def without_client(facts: Facts) -> Facts:
    idle = {
        name: replace(entry, up=False, child_sas=()) for name, entry in facts.connections.items()
    }
    return replace(facts, connections=idle)


def test_a_client_that_is_away_leaves_its_cable(cables: tuple[Cable, ...], host: Host) -> None:
    away, *others = cables
    host.has(*others)
    told = Told()
    outcome = apply(in_turn(blank(cables), left(cables)), told)
    assert outcome.failed.keys() == {away.id}
    assert isinstance(outcome.failed[away.id], ClientAwayError)
    assert "the cable waits for it" in outcome.failed[away.id].message
    assert (told.undone, told.lost) == ([], {})
    if away.overlay:  # the client finds the whole cable when it comes
        assert any(f"ip route add {away.remote.networks[0]} " in line for line in host.log)


def test_a_client_that_is_refused_does_not(
    cables: tuple[Cable, ...], host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    away, *others = cables
    host.has(*others)
    monkeypatch.setattr(PlutoLog, "about", lambda *_, **__: "responding with AUTHENTICATION_FAILED")
    told = Told()
    refused = failure(cables, left(cables), told)
    assert not isinstance(refused, ClientAwayError)
    assert "authentication failed" in refused.message
    assert any(away.connections[0].name in argv for argv in told.undone)


def test_what_else_is_still_to_do_is_a_failure(cables: tuple[Cable, ...], host: Host) -> None:
    host.has(*cables[1:])
    told = Told()
    error = failure(cables, blank(cables), told)
    assert "still to do" in error.message
    assert told.undone


def failure(cables: tuple[Cable, ...], again: Plan, told: Told) -> CablectlError:
    """Return the error of the first cable: raised, or in the outcome of several cables."""
    try:
        return apply(in_turn(blank(cables), again), told).failed[cables[0].id]
    except CablectlError as error:
        return error
