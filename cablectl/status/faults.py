"""Finds why a cable isn't up: what is missing, and what was not created by cablectl.

If connect would find something to do, there is a fault. Exceptions, since they don't matter yet:
kernel modules, the key's own file, a smaller MTU, stale peers, a forwarding entry that floods,
Child SAs that are too many.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from cablectl.facts import earlier_devices, orientation, table
from cablectl.facts.expiry import Urgency
from cablectl.facts.host_facts import Credential, Facts, Link, OverlayFacts, Pluto
from cablectl.libreswan import pluto
from cablectl.libreswan.authentication import authentication_of
from cablectl.libreswan.pluto import Ike
from cablectl.linux import guard, iproute, mss, xfrm
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.xfrm import Policy
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.wishes import AnyNetwork, Mode, OverlayWish
from cablectl.model.x509 import Auth


def foreign(cable: Cable, facts: Facts) -> Iterator[str]:
    """Yield what uses this cable's names but was not created by cablectl for this cable."""
    link, loaded = facts.overlay.link, facts.loaded(cable)
    if cable.overlay and link and not link.ours:
        yield f"the device {cable.overlay.device} exists, but cablectl didn't make it"
    elif cable.overlay and link and not _is_device_of(cable, facts, link, cable.overlay):
        yield f"the device {cable.overlay.device} was made for another cable, port, VNI or key"
    for connection in cable.connections if not facts.made_here else ():
        entry = loaded.get(connection.name)
        if entry and not entry.joins(pluto.selectors(connection)):
            yield f"{_label(cable, connection.name)} is loaded with other addresses or ports"
    marks = (facts.made_here, facts.guard, link and link.ours)
    if loaded and not any(marks):
        yield "connections with these names are loaded, but cablectl didn't load them"


def expired(facts: Facts, now: float) -> Iterator[str]:
    """Yield which certificates have ended; `now` is in seconds since 1970."""
    for expiry in facts.expiries:
        if expiry.urgency(now) is Urgency.EXPIRED:
            yield expiry.in_words(now)


def _is_device_of(cable: Cable, facts: Facts, link: Link, wanted: OverlayWish) -> bool:
    return link.fits(cable, wanted) or earlier_devices.is_of_earlier_file(cable, facts, wanted)


def missing(cable: Cable, facts: Facts, largest_mtu: int | None) -> Iterator[str]:
    """Yield what is missing, or differs from what connect makes.

    `largest_mtu` is the largest MTU that path and SAs allow, in bytes.
    """
    if not facts.holds_address:
        reason, _ = orientation.cause(cable, facts)
        yield reason
    policies = facts.policies.keys() & xfrm.policies_of(cable.connections)
    loaded = facts.loaded(cable) or facts.outdated(cable)
    if not (loaded or policies or facts.overlay.link or facts.guard):
        yield "this host has nothing of the cable"
        return
    if cable.connections:
        yield from _ipsec(cable, facts)
    if cable.guarded and not guard.is_intact(cable, facts.guard):
        what = "was changed" if facts.guard else "is missing"
        yield f"the guard {what}: table {guard.name(cable)}"
    yield from _clamp(cable, facts)
    if cable.overlay:
        yield from _overlay(cable, facts, cable.overlay, largest_mtu)


def _clamp(cable: Cable, facts: Facts) -> Iterator[str]:
    """Find segments that are too large; smaller ones than needed do no harm."""
    link = facts.overlay.link
    if cable.overlay and link is None:
        return
    largest = link.mtu if cable.overlay and link else mss.tunnel_mtu(cable, facts.path_mtu)
    needed = mss.wanted([cable], largest)
    if needed is None:
        return
    if facts.mss is None:
        yield f"nothing limits TCP's segments: table {mss.name(cable)} is missing"
    elif not mss.covers(facts.mss, needed, shared=cable.shares_device):
        yield f"the limit of TCP's segments was changed: table {mss.name(cable)}"


def _label(cable: Cable, name: str) -> str:
    return f"connection {name.removeprefix(f'{cable.remote.cable_name}-')}"


def _ipsec(cable: Cable, facts: Facts) -> Iterator[str]:
    outdated = facts.outdated(cable)
    if facts.pluto is not Pluto.RUNNING:
        yield "pluto isn't running, so the SAs aren't renewed"
    elif not (facts.loaded(cable) or outdated):
        yield "no connection of the cable is loaded"
    else:
        yield from (f"{_label(cable, name)} is from an earlier file" for name in outdated)
        without_interface = orientation.unoriented(cable, facts)
        for name in without_interface if facts.holds_address else ():
            reason, _ = orientation.cause(cable, facts)
            yield f"{_label(cable, name)} is unoriented in pluto: {reason}"
        judged = {*outdated, *without_interface}
        for connection in cable.connections:
            problems = () if connection.name in judged else _connection(cable, connection, facts)
            yield from (f"{_label(cable, connection.name)} {problem}" for problem in problems)
    routed = all(connection.routed for connection in cable.connections)
    if facts.holds_address and facts.nic is None and routed:
        yield "this host has no route to the peer"
    yield from _credential(cable, facts)
    for shunt in facts.shunts:
        if shunt.policy == "pass" and _concerns(shunt, cable.connections):
            ends = f"from {shunt.source} to {shunt.destination}"
            yield f"pluto lets packets {ends} pass in clear text"


def _credential(cable: Cable, facts: Facts) -> Iterator[str]:
    place = authentication_of(cable.ipsec).place(cable)
    if facts.credential is Credential.ABSENT:
        what = "the secrets file" if cable.ipsec.auth is Auth.PSK else "the mark of the certificate"
        yield f"{what} {place} is missing"
    elif facts.credential is Credential.RENEWED:
        yield "pluto has another certificate loaded than the file names"
    elif facts.credential is Credential.INCOMPLETE:
        yield "NSS lacks a part of what the file names: the certificate, an authority or a CRL"


def _connection(cable: Cable, connection: Connection, facts: Facts) -> Iterator[str]:
    loaded = facts.connections.get(connection.name)
    if loaded is None:
        yield "isn't loaded"
        return
    trapped = loaded.routed and connection.routed
    if loaded.lost:
        yield "has no SA in the kernel, but pluto believes that it has"
    elif loaded.ike_of == "":
        yield "has a Child SA whose IKE SA is gone, so the peer dropped the Child SA"
    elif not loaded.up and loaded.child_sas:
        yield "has a Child SA that isn't in pluto's list of states"
    elif not loaded.up:
        how = "; pluto is negotiating" if loaded.ike is Ike.NEGOTIATING else ""
        yield f"has no Child SA for {connection.protects}{how}"
        if cable.traps and connection.routed and not loaded.routed:
            yield "isn't routed"
    out, into, *_ = xfrm.policies(connection)
    needed: set[Policy] = {out, into} if loaded.up else {out} if trapped else set()
    if needed - facts.policies.keys():
        yield "has no policy in the kernel, but pluto believes that it has"


def _concerns(shunt: pluto.Shunt, connections: tuple[Connection, ...]) -> bool:
    source, destination = ip_network(shunt.source), ip_network(shunt.destination)
    return any(
        _overlap(source, connection.local.network)
        and _overlap(destination, connection.remote.network)
        for connection in connections
    )


def _overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _overlay(
    cable: Cable, facts: Facts, wanted: OverlayWish, largest_mtu: int | None
) -> Iterator[str]:
    link = facts.overlay.link
    if link is None:
        yield f"the device {wanted.device} is missing"
        return
    yield from _device(cable, facts.overlay, link, wanted)
    yield from _network(cable, facts, wanted)
    if largest_mtu is not None and link.mtu > largest_mtu:
        yield f"the MTU {link.mtu} is too large: path and SAs allow at most {largest_mtu}"


def _device(cable: Cable, present: OverlayFacts, link: Link, wanted: OverlayWish) -> Iterator[str]:
    device = wanted.device
    if not link.up:
        yield f"the device {device} is down"
    for difference in earlier_devices.differences(cable, link, wanted):
        yield f"the device {device} {difference}"
    for old in earlier_devices.old_addresses(cable, link):
        yield f"{device} has the address {old} of an earlier file"
    for interface in cable.device_addresses:
        if str(interface) not in link.addresses:
            yield f"{device} has no address {interface}"
    for mac, gateway in overlay_of(wanted).fdb_entries(cable):
        if (mac, gateway) not in present.fdb:
            yield f"{device} has no forwarding entry for {mac} to {gateway}"
    vtep = str(cable.remote_vtep.ip)
    if overlay_of(wanted).has_macs and (vtep, cable.mac_of(cable.remote)) not in present.neighbours:
        yield f"{device} has no neighbour {vtep}"
    for path, value in iproute.settings(cable, wanted):
        if (path, value) not in present.settings:
            yield f"{path} isn't {value}"


def _network(cable: Cable, facts: Facts, wanted: OverlayWish) -> Iterator[str]:
    installed = {route[:2]: route for route in facts.overlay.routes}
    for route in iproute.routes(cable, facts.source):
        subnet, vtep, source = route
        if (subnet, vtep) not in installed:
            yield f"the route to {subnet} through {wanted.device} is missing"
        elif installed[subnet, vtep] != route:
            yield f"the route to {subnet} has another source address than {source or 'the VTEP'}"
    if facts.leaves_with not in ("", str(cable.local_underlay)):
        yield f"packets to the peer leave with {facts.leaves_with}, which no policy protects"
    if cable.mode is Mode.TUNNEL and not facts.overlay.blackhole:
        yield f"table {cable.routes.table} has no blackhole route to {cable.underlay_network}"
    if iproute.table_rule(cable) not in facts.overlay.rules:
        yield f"the rule that looks up table {cable.routes.table} is missing"
    for problem, _ in table.in_the_way(cable, facts.overlay):
        yield problem
    for number in table.outdated(facts.overlay):
        yield f"an earlier cablectl or file left routes or a rule of table {number}"
