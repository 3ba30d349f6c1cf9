"""Every reason why a cable that was up isn't, by name."""

from collections.abc import Callable

from msgspec.structs import replace

from cablectl.facts import host_facts
from cablectl.facts.host_facts import Credential, Facts
from cablectl.libreswan.pluto import Ike, Shunt
from cablectl.linux import mss, xfrm
from cablectl.linux.iproute import OldRoute, Rule
from cablectl.linux.nftables import Installed
from cablectl.model.cable import Cable
from tests.support.alive import (
    alive,
    name,
    with_connection,
    with_link,
    without_sa,
)
from tests.support.examples import load

Change = Callable[[Cable, Facts], Facts]
PEERS = "submariner-cable-cluster1-172-18-0-8-0"


def less(part: str) -> Change:
    """Return a change that takes one entry of the overlay's away."""

    def change(_: Cable, facts: Facts) -> Facts:
        entries = sorted(getattr(facts.overlay, part))
        return replace(facts, overlay=replace(facts.overlay, **{part: frozenset(entries[1:])}))

    return change


# What is wrong, and the beginning of the one reason that is told.
FAULTS: dict[str, tuple[Change, str]] = {
    "one Child SA of two": (
        lambda cable, facts: without_sa(cable, facts, 1),
        "connection 1 has no Child SA for what the local VTEP sends",
    ),
    "the other one": (
        lambda cable, facts: without_sa(cable, facts, 0, ike=Ike.NEGOTIATING),
        "connection 0 has no Child SA for what the local VTEP receives; pluto is negotiating",
    ),
    "a connection that isn't loaded": (
        lambda cable, facts: with_connection(cable, facts, 0, None),
        "connection 0 isn't loaded",
    ),
    "SAs that were flushed": (
        lambda cable, facts: with_connection(
            cable,
            facts,
            0,
            replace(facts.connections[name(cable, 0)], up=False, child_sas=(), lost=True),
        ),
        "connection 0 has no SA in the kernel, but pluto believes that it has",
    ),
    "an IKE SA that is gone": (
        lambda cable, facts: with_connection(
            cable, facts, 0, replace(facts.connections[name(cable, 0)], up=False, ike_of="")
        ),
        "connection 0 has a Child SA whose IKE SA is gone, so the peer dropped the Child SA",
    ),
    "a connection without an interface": (
        lambda cable, facts: with_connection(
            cable,
            facts,
            0,
            replace(
                facts.connections[name(cable, 0)],
                up=False,
                routed=False,
                child_sas=(),
                unoriented=True,
            ),
        ),
        "connection 0 is unoriented in pluto: pluto uses no interface that has 172.18.0.8",
    ),
    "a policy that was flushed": (
        lambda cable, facts: replace(
            facts,
            policies={
                each: reqid
                for each, reqid in facts.policies.items()
                if each != xfrm.policies(cable.connections[1])[0]
            },
        ),
        "connection 1 has no policy in the kernel, but pluto believes that it has",
    ),
    "a connection of an earlier file": (
        lambda cable, facts: with_connection(
            cable, facts, 0, alive(load("quickstart", "cluster2")).connections[PEERS]
        ),
        "connection 0 is from an earlier file",
    ),
    "a connection that only an earlier file had": (
        lambda cable, facts: replace(
            facts,
            connections=facts.connections
            | {f"{cable.remote.cable_name}-2": facts.connections[name(cable, 0)]},
        ),
        "connection 2 is from an earlier file",
    ),
    "the secret": (
        lambda _, facts: replace(facts, credential=Credential.ABSENT, made_here=False),
        "the secrets file /etc/ipsec.d/cablectl-cluster2-172-18-0-7.secrets is missing",
    ),
    "no guard": (
        lambda _, facts: replace(facts, guard=None),
        "the guard is missing: table inet cablectl_vxlan-tunnel",
    ),
    "half a guard": (
        lambda _, facts: replace(facts, guard=Installed("another", "mark")),
        "the guard was changed",
    ),
    "no clamp": (
        lambda _, facts: replace(facts, mss=None),
        "nothing limits TCP's segments: table inet cablectl-mss_vxlan-tunnel is missing",
    ),
    "another clamp": (
        lambda _, facts: replace(facts, mss=mss.CHANGED),
        "the limit of TCP's segments was changed: table inet cablectl-mss_vxlan-tunnel",
    ),
    "a clamp for larger packets": (
        lambda _, facts: replace(facts, mss=mss.Table(1369, frozenset({"10.45.0.0/16"}))),
        "the limit of TCP's segments was changed: table inet cablectl-mss_vxlan-tunnel",
    ),
    "a clamp for other subnets": (
        lambda _, facts: replace(facts, mss=mss.Table(1368, frozenset({"10.9.0.0/16"}))),
        "the limit of TCP's segments was changed: table inet cablectl-mss_vxlan-tunnel",
    ),
    "no device": (
        lambda _, facts: replace(
            facts, overlay=host_facts.OverlayFacts(rules=frozenset({Rule(24141, 241)}))
        ),
        "the device vxlan-tunnel is missing",
    ),
    "device down": (
        lambda _, facts: with_link(facts, up=False),
        "the device vxlan-tunnel is down",
    ),
    "no address": (
        lambda _, facts: with_link(facts, addresses=frozenset({"fe80::1/64"})),
        "vxlan-tunnel has no address 241.18.0.8/8",
    ),
    "an FDB entry": (
        less("fdb"),
        "vxlan-tunnel has no forwarding entry for 00:00:00:00:00:00 to 172.18.0.7",
    ),
    "the neighbour": (less("neighbours"), "vxlan-tunnel has no neighbour 241.18.0.7"),
    "the route": (less("routes"), "the route to 10.45.0.0/16 through vxlan-tunnel is missing"),
    "a route from elsewhere": (
        lambda _, facts: replace(facts, source="10.44.0.1"),
        "the route to 10.45.0.0/16 has another source address than 10.44.0.1",
    ),
    "the rule": (
        lambda _, facts: replace(facts, overlay=replace(facts.overlay, rules=frozenset())),
        "the rule that looks up table 24141 is missing",
    ),
    "routes of an earlier cablectl": (
        lambda _, facts: replace(
            facts,
            overlay=replace(
                facts.overlay,
                old_routes=frozenset({OldRoute(100, ("10.45.0.0/16", "241.18.0.7", ""))}),
                old_rules=frozenset({Rule(100, 100)}),
            ),
        ),
        "an earlier cablectl or file left routes or a rule of table 100",
    ),
    "a setting": (less("settings"), "/proc/sys/net/ipv4/conf/vxlan-tunnel/forwarding isn't 1"),
    "too large an MTU": (
        lambda _, facts: replace(with_link(facts, mtu=1409)),
        "the MTU 1409 is too large: path and SAs allow at most 1408",
    ),
    "a path that became narrower": (
        lambda _, facts: replace(facts, path_mtu=1400),
        "the MTU 1408 is too large: path and SAs allow at most 1308",
    ),
}
# What connect doesn't mend, since pluto has to.
OUTSIDE: dict[str, tuple[Change, str]] = {
    "a shunt": (
        lambda _, facts: replace(
            facts,
            shunts=(
                Shunt("172.18.0.8/32", "172.18.0.7/32", "hold"),
                Shunt("172.18.0.8/32", "172.18.0.9/32", "pass"),
                Shunt("2001:db8::8/128", "2001:db8::7/128", "pass"),
                Shunt("172.18.0.8/32", "172.18.0.7/32", "pass"),
            ),
        ),
        "pluto lets packets from 172.18.0.8/32 to 172.18.0.7/32 pass in clear text",
    ),
    "a route of another program": (
        lambda _, facts: replace(
            facts, overlay=replace(facts.overlay, foreign_routes=("default via 192.168.2.1",))
        ),
        "table 24141 has a route that cablectl didn't make: default via 192.168.2.1",
    ),
    "a rule of another program": (
        lambda _, facts: replace(
            facts, overlay=replace(facts.overlay, foreign_rules=("7: from all lookup 24141",))
        ),
        "a rule that cablectl didn't make has table 24141 or priority 241: 7: from all",
    ),
    "no way to the peer": (
        lambda _, facts: replace(facts, nic=None),
        "this host has no route to the peer",
    ),
}
