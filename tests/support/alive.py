"""Facts of a host on which a cable is up, and what is taken away from them."""

from msgspec.structs import replace

from cablectl.facts import host_facts
from cablectl.facts.host_facts import Facts
from cablectl.libreswan.dialects import Version
from cablectl.libreswan.pluto import ChildSa, Ike, LoadedConnection
from cablectl.linux import xfrm
from cablectl.linux.esp_offload import Nic
from cablectl.linux.mtu import AES_GCM
from cablectl.linux.xfrm import Policy, SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.status import state
from cablectl.status.report import CableState, StatusReport, Verdict

NOW = 1_795_548_000.25
BLANK = Facts(libreswan=Version(4, 10), nic=Nic("eth0"))


def alive(cable: Cable) -> Facts:
    """Return the facts of a host on which all of the cable is there, an hour after connect."""
    size = connect_plan.overlay_mtu(cable, BLANK, cable.overlay) if cable.overlay else 1500
    made = host_facts.connected(cable, BLANK, size)
    connections: dict[str, LoadedConnection] = {}
    policies: dict[Policy, int] = {}
    sas: list[SecurityAssociation] = []
    for number, each in enumerate(cable.connections):
        reqid = 16389 + 4 * number
        policies |= dict.fromkeys(xfrm.policies(each), reqid)
        pair = (f"0x7027bc{number:02x}", f"0x35f133{number:02x}")
        sa = ChildSa(number + 2, int(NOW) - 3600, 824, 1236, *pair, 25200)
        ike = Ike.NONE if number else Ike.ESTABLISHED
        connections[each.name] = replace(made.connections[each.name], child_sas=(sa,), ike=ike)
        ends = (str(cable.remote_host), str(cable.local.address))
        for spi, (source, target) in zip(pair, (ends, ends[::-1]), strict=True):
            sas.append(
                SecurityAssociation(
                    source, target, "esp", spi, reqid, encapsulated=True, cipher=AES_GCM
                )
            )
    return replace(made, connections=connections, policies=policies, sas=tuple(sas))


def report(*cables: CableState, time: float = NOW) -> StatusReport:
    return StatusReport(time=time, cables=cables)


def seen(cable: Cable, facts: Facts) -> tuple[Verdict, tuple[str, ...]]:
    told = state.of(cable, facts, NOW)
    return told.verdict, told.reasons


def name(cable: Cable, number: int) -> str:
    return cable.connections[number].name


def with_connection(
    cable: Cable, facts: Facts, number: int, connection: LoadedConnection | None
) -> Facts:
    others = {each: it for each, it in facts.connections.items() if each != name(cable, number)}
    added = {} if connection is None else {name(cable, number): connection}
    return replace(facts, connections=others | added)


def without_sa(cable: Cable, facts: Facts, *numbers: int, ike: Ike = Ike.NONE) -> Facts:
    for number in numbers:
        loaded = facts.connections[name(cable, number)]
        routed = cable.traps and loaded.routed
        idle = replace(loaded, routed=routed, up=False, child_sas=(), ike=ike)
        facts = with_connection(cable, facts, number, idle)
    return facts


def with_link(facts: Facts, **changes: object) -> Facts:
    assert facts.overlay.link
    link = replace(facts.overlay.link, **changes)
    return replace(facts, overlay=replace(facts.overlay, link=link))
