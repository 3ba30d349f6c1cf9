"""Certificates in a plan: what a change of them does to the connections."""

import pytest
from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, connected
from cablectl.libreswan import nss, whack
from cablectl.model.cable import Cable
from cablectl.model.x509 import Auth
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Change, Phase, Plan
from cablectl.render import plans
from cablectl.status import faults
from tests.support.plans import BLANK


@pytest.fixture
def this(cable: Cable) -> Cable:
    return replace(cable, ipsec=replace(cable.ipsec, auth=Auth.CERT))


def needed(plan: Plan, *phases: Phase) -> list[tuple[str, ...]]:
    return [step.argv for step in plan.needed if step.phase in phases]


def test_a_connect_and_a_teardown(this: Cable) -> None:
    plan = connect_plan.plan((this,), (BLANK,))
    (step,) = (step for step in plan.needed if step.argv == nss.install_all([this]))
    assert (step.undo, step.limit) == (nss.remove(this.id), 60)
    assert "# secret: the certificate and its key in NSS" in plans.as_script(plan)
    made = connected(this, BLANK, 1408)
    assert connect_plan.plan((this,), (made,)).needed == ()
    left = teardown_plan.plan((this,), (made,))
    assert needed(left, Phase.FORGET) == list(nss.remove(this.id))


def test_another_certificate_loads_the_connections_again(this: Cable) -> None:
    renewed = replace(connected(this, BLANK, 1408), credential=Credential.RENEWED)
    plan = connect_plan.plan((this,), (renewed,))
    names = [connection.name for connection in this.connections]
    added = [whack.add(this, each, BLANK.libreswan) for each in this.connections]
    assert needed(plan, Phase.ADD) == [*map(whack.delete, names), *added]
    (step,) = (step for step in plan.needed if step.argv == nss.install_all([this]))
    assert (step.undo, step.kind) == ((), Change.ALTER)
    assert "pluto has another certificate" in "".join(faults.missing(this, renewed, None))


def test_a_new_authority_or_list_keeps_the_connections(this: Cable) -> None:
    incomplete = replace(connected(this, BLANK, 1408), credential=Credential.INCOMPLETE)
    plan = connect_plan.plan((this,), (incomplete,))
    assert {step.phase for step in plan.needed} == {Phase.SECRET}
    assert plan.needed[0].argv == nss.install_all([this])
    assert "NSS lacks a part" in "".join(faults.missing(this, incomplete, None))
