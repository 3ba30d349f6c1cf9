"""Facts of a host, by what stands of a cable there."""

from collections.abc import Iterable

from msgspec.structs import replace

from cablectl.facts.expiry import DAY, Expiry, Role
from cablectl.facts.host_facts import Algorithms, Credential, Facts, Link, OverlayFacts, connected
from cablectl.libreswan.dialects import Version
from cablectl.libreswan.pluto import ChildSa
from cablectl.linux import guard
from cablectl.linux.esp_offload import Nic
from cablectl.linux.iproute import OldRoute
from cablectl.model.cable import Cable
from tests.support.hosts import HOST


def with_ends(
    facts: Facts, ends: Iterable[tuple[str, str, int]], now: float = HOST["time"]
) -> Facts:
    """Return facts with certificates that end in so many days."""
    expiries = (Expiry(Role(role), subject, int(now) + days * DAY) for role, subject, days in ends)
    return replace(facts, expiries=tuple(expiries))


def facts(cable: Cable, standing: str) -> Facts:
    """Return the facts of a host with all of the cable, with none of it, or with it broken."""
    plain = Facts(libreswan=Version(4, 10), nic=Nic("eth0"), to_load=())
    up = connected(cable, replace(plain, credential=Credential.SAME), 1408)
    first, *_ = [*up.connections, ""]
    match standing:
        case "absent":
            return plain
        case "unincluded":
            return replace(
                plain,
                not_ready=(
                    ("/etc/ipsec.secrets doesn't include cablectl's secrets files", "add it"),
                ),
            )
        case "loaded":
            return connected(cable, plain, 1408, up=False)
        case "unoriented":
            idle = connected(cable, plain, 1408, up=False)
            return replace(
                idle,
                connections={
                    name: replace(entry, routed=False, unoriented=True)
                    for name, entry in idle.connections.items()
                },
                policies={},
            )
        case "halved":
            loaded = replace(up.connections[first], up=False)
            return replace(
                up,
                connections={**up.connections, first: loaded},
                guard=None,
                overlay=replace(up.overlay, fdb=frozenset()),
            )
        case "spoken to":
            sa = ChildSa(serial=2, added=0, bytes_in=682, bytes_out=0)
            loaded = replace(up.connections[first], child_sas=(sa,))
            return replace(up, connections={**up.connections, first: loaded})
        case "ending":
            ends = (("gateway", "O=cablectl, CN=gw1", 6), ("authority", "CN=authority", 29))
            return with_ends(up, ends)
        case "far from its end":
            return with_ends(up, (("gateway", "O=cablectl, CN=gw1", 31),))
        case "attacked":
            return replace(up, guard=replace(guard.made(cable), counted={"in": 20}))
        case "foreign":
            link = Link(kind="vxlan", group="0", mac="", mtu=1450, up=True)
            return replace(plain, overlay=OverlayFacts(link=link))
        case "mixed table":
            route, rule = (
                "default via 192.168.2.1 dev eth0",
                "32765: from 192.168.2.254 lookup 24141",
            )
            return replace(
                up, overlay=replace(up.overlay, foreign_routes=(route,), foreign_rules=(rule,))
            )
        case "old table":
            old = frozenset({OldRoute(100, ("10.45.0.0/16", "241.18.0.7", ""))})
            return replace(up, overlay=replace(up.overlay, old_routes=old))
        case "unchecked":
            why = "`ipsec algparse` can't check ipsec.esp here: exit code 1: no output"
            return replace(up, algorithms=Algorithms(unchecked=why))
        case "address lost":
            return replace(up, holds_address=False, instead="172.18.0.18", nic=None, device="")
        case "another key":
            return replace(up, credential=Credential.OTHER)
    assert standing == "up"
    return up
