"""Why a Child SA is missing: what this end refused counts more than what the peer says later."""

import time

import pytest

from cablectl.host import daemon
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan.pluto import Negotiations
from cablectl.model.cable import Cable
from cablectl.plan.steps import Phase, Step
from cablectl.run import waiting
from tests.support.documents import meshed
from tests.support.examples import load

ASKED = "dropping unexpected IKE_SA_INIT message containing NO_PROPOSAL_CHOSEN notification"
REFUSED = 'NSS: ERROR: IPsec certificate CN=x invalid: SEC_ERROR_REVOKED_CERTIFICATE: "-1" #2'


def first_of(cable: Cable, limit: float = 1) -> Step:
    """Return the step that waits for the cable's first connection."""
    return Step(
        phase=Phase.WAIT,
        argv=("true",),
        why="",
        cable=cable.id,
        limit=limit,
        waits_for=cable.connections[0].name,
        can_ask=True,
    )


def test_what_this_end_refused_while_it_asked(
    cable: Cable, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the name of the other connection: pluto has one IKE SA for both."""
    first, second = (connection.name for connection in cable.connections)
    said = list[str]()

    def ask(name: str, of_cable: frozenset[str]) -> str:
        assert of_cable == cable.names
        assert name == first
        said.append(f'"{second}" #2: {REFUSED}')
        return ASKED

    def about(_: PlutoLog, *names: str, address: str = "") -> str:
        assert address == str(cable.remote_host)
        return "\n".join(line for line in said if any(name in line for name in names))

    monkeypatch.setattr(waiting, "_negotiate_again", ask)
    monkeypatch.setattr(daemon, "negotiations", lambda: Negotiations(frozenset(), frozenset()))
    monkeypatch.setattr(PlutoLog, "about", about)
    begun = list[Cable]()
    found = waiting.Waiting(
        [first_of(cable)],
        time.monotonic() - 2,
        lambda *_: None,
        PlutoLog(),
        {cable.id: cable},
        lambda each, _: begun.append(each),
    ).errors()
    assert begun == []
    assert found[cable.id].message.endswith("the certificate of the peer is revoked")


@pytest.mark.parametrize("cluster", ["cluster1", "cluster2"])
def test_a_peer_that_this_end_refuses_is_not_asked(
    cluster: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By the end that waits: the peer would take the cable for up. The cause is in the log."""
    cable = load("quickstart", cluster)
    monkeypatch.setattr(waiting, "POLL", 0.001)
    monkeypatch.setattr(daemon, "negotiations", lambda: Negotiations(frozenset(), frozenset()))
    monkeypatch.setattr(PlutoLog, "about", lambda *_, **__: REFUSED)
    monkeypatch.setattr(waiting, "_negotiate_again", lambda *_: pytest.fail("asked"))
    begun = list[Cable]()
    found = waiting.Waiting(
        [first_of(cable, limit=0.5)],
        time.monotonic(),
        lambda *_: None,
        PlutoLog(),
        {cable.id: cable},
        lambda each, _: begun.append(each),
    ).errors()
    assert found[cable.id].message.endswith("the certificate of the peer is revoked")
    assert bool(begun) == cable.initiates


def test_many_silent_peers_are_not_all_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes 20 s, and the unit has 5 minutes for all; pluto's log tells of the others."""
    cables = meshed("transport vxlan v4 mesh")
    assert len(cables) > 1
    asked = list[str]()

    def ask(name: str, _: object) -> str:
        asked.append(name)
        time.sleep(0.2)
        return ""

    monkeypatch.setattr(waiting, "AT_ONCE", 1)
    monkeypatch.setattr(waiting, "ASKING", 0.1)
    monkeypatch.setattr(waiting, "_negotiate_again", ask)
    monkeypatch.setattr(daemon, "negotiations", lambda: Negotiations(frozenset(), frozenset()))
    monkeypatch.setattr(PlutoLog, "about", lambda *_, **__: ASKED)
    found = waiting.Waiting(
        [first_of(cable) for cable in cables],
        time.monotonic() - 2,
        lambda *_: None,
        PlutoLog(),
        {cable.id: cable for cable in cables},
        lambda *_: None,
    ).errors()
    assert len(asked) == 1
    assert found.keys() == {cable.id for cable in cables}
    assert all("accepts none of our proposals" in error.message for error in found.values())
