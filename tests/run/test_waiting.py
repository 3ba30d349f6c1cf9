"""Why a Child SA is missing: what this end refused counts more than what the peer says later."""

import time

import pytest

from cablectl.host import daemon
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan.pluto import Negotiations
from cablectl.model.cable import Cable
from cablectl.plan.steps import Change, Phase, Step
from cablectl.run import waiting

ASKED = "dropping unexpected IKE_SA_INIT message containing NO_PROPOSAL_CHOSEN notification"
REFUSED = 'NSS: ERROR: IPsec certificate CN=x invalid: SEC_ERROR_REVOKED_CERTIFICATE: "-1" #2'


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
    monkeypatch.setattr(daemon, "negotiations", lambda *_: Negotiations(frozenset(), frozenset()))
    monkeypatch.setattr(PlutoLog, "about", about)
    step = Step(
        phase=Phase.WAIT,
        argv=("true",),
        why="",
        kind=Change.ADD,
        cable=cable.id,
        limit=1,
        waits_for=first,
        can_ask=True,
    )
    begun = list[Cable]()
    found = waiting.Waiting(
        [step],
        time.monotonic() - 2,
        lambda *_: None,
        PlutoLog(),
        {cable.id: cable},
        lambda each, _: begun.append(each),
    ).errors()
    assert begun == []
    assert found[cable.id].message.endswith("the certificate of the peer is revoked")
