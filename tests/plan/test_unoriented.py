"""A loaded connection for which pluto has no interface: loaded again, and told if it stays so."""

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts import orientation
from cablectl.facts.host_facts import Facts
from cablectl.linux.esp_offload import HARDWARE, Nic
from cablectl.model.cable import Cable
from cablectl.model.wishes import Offload
from cablectl.plan import connect_plan
from tests.support.plans import needed

CAN, CANNOT = (Nic("eth0", {HARDWARE: active}) for active in (True, False))


@pytest.fixture
def unoriented(made: Facts) -> Facts:
    """Facts of a host that has all of the cable, but pluto has no interface for connection 0."""
    first, *others = made.connections
    lost = replace(made.connections[first], routed=False, up=False, unoriented=True)
    connections = {first: lost, **{name: made.connections[name] for name in others}}
    return replace(made, connections=connections)


def test_it_is_loaded_again_after_pluto_reads_the_addresses(
    cable: Cable, unoriented: Facts
) -> None:
    name = cable.connections[0].name
    plan = connect_plan.plan((cable,), (unoriented,))
    listen, delete, add, *rest = needed(plan)
    assert listen == "ipsec whack --listen"
    assert delete == f"ipsec whack --delete --name {name}"
    assert f"--name {name} " in add
    assert not any("--route" in line for line in rest)  # the other end begins
    (why,) = [step.why for step in plan.needed if "--delete" in step.argv]
    assert "no interface" in why
    assert "flushed" not in why


def test_the_other_connection_is_left_alone(cable: Cable, unoriented: Facts) -> None:
    other = cable.connections[1].name
    plan = connect_plan.plan((cable,), (unoriented,))
    assert not [line for line in needed(plan) if f"--name {other}" in line]


@pytest.mark.parametrize(
    ("holds", "offload", "nic", "reason", "remedy"),
    [
        (False, Offload.AUTO, CAN, "this host no longer has", "write the new address"),
        (False, Offload.REQUIRED, None, "this host no longer has", "instead of 172.18.0.8"),
        (True, Offload.REQUIRED, Nic("eth0"), "eth0 has no ESP offload", "offload: auto"),
        (True, Offload.PACKET, None, "the NIC has no ESP offload", "offload: auto"),
        (True, Offload.REQUIRED, CAN, "pluto uses no interface", "listen="),
        (True, Offload.AUTO, CANNOT, "pluto uses no interface", "listen="),
    ],
)
def test_the_cause(
    cable: Cable,
    unoriented: Facts,
    holds: bool,
    offload: Offload,
    nic: Nic | None,
    reason: str,
    remedy: str,
) -> None:
    wanted = replace(cable, ipsec=replace(cable.ipsec, offload=offload))
    facts = replace(unoriented, holds_address=holds, nic=nic)
    error = orientation.error(wanted, facts, ["pluto's line"])
    assert isinstance(error, HostNotReadyError)
    assert reason in error.message
    assert remedy in error.hint
    assert error.details == ("pluto's line",)
