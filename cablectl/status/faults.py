"""What keeps a cable from being up: what of it is missing, and what is there and isn't its own.

As long as connect would find something to do there is a fault, but for what doesn't matter yet:
modules, the key's own file, a smaller MTU, peers that the file has no more, an entry that floods.
"""

from collections.abc import Iterator
from ipaddress import ip_network

from cablectl.facts.host_facts import Credential, Facts, Link, OverlayFacts, Pluto
from cablectl.libreswan import pluto
from cablectl.libreswan.authentication import authentication_of
from cablectl.libreswan.pluto import Ike
from cablectl.linux import guard, iproute, xfrm
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.xfrm import Policy
from cablectl.model.cable import Cable, Connection
from cablectl.model.wishes import AnyNetwork, OverlayWish


def foreign(cable: Cable, facts: Facts) -> Iterator[str]:
    """Yield what bears the cable's names and isn't what its file, or cablectl, made."""
    link, loaded = facts.overlay.link, facts.loaded(cable)
    if cable.overlay and link and not link.ours:
        yield f"the device {cable.overlay.device} is there and cablectl didn't make it"
    elif cable.overlay and link and not link.fits(cable, cable.overlay):
        yield f"the device {cable.overlay.device} was made for another cable, port, VNI or key"
    for each in cable.connections if not facts.made_here else ():
        if each.name in loaded and not loaded[each.name].joins(pluto.selectors(each)):
            yield f"pluto has {_called(cable, each.name)} with other addresses or ports"
    marks = (facts.made_here, facts.guard, link and link.ours)
    if loaded and not any(marks):
        yield "pluto has connections of these names, and cablectl made none here"


def missing(cable: Cable, facts: Facts, largest_mtu: int | None) -> Iterator[str]:
    """Yield what of the cable is missing, or isn't as connect makes it.

    `largest_mtu`, in bytes, is what path and SAs carry.
    """
    policies = facts.policies.keys() & xfrm.policies_of(cable.connections)
    there = facts.loaded(cable) or facts.outdated(cable)
    if not (there or policies or facts.overlay.link or facts.guard):
        yield "nothing of it is here"
        return
    if cable.connections:
        yield from _ipsec(cable, facts)
    if cable.guarded and not guard.stands(cable, facts.guard):
        what = "isn't whole" if facts.guard else "is gone"
        yield f"the guard {what}: table {guard.name(cable)}"
    if cable.overlay:
        yield from _overlay(cable, facts, cable.overlay, largest_mtu)


def _called(cable: Cable, name: str) -> str:
    return f"connection {name.removeprefix(f'{cable.remote.cable_name}-')}"


def _ipsec(cable: Cable, facts: Facts) -> Iterator[str]:
    outdated = facts.outdated(cable)
    if facts.pluto is not Pluto.RUNNING:
        yield "pluto isn't running: nobody renews SAs"
    elif not (facts.loaded(cable) or outdated):
        yield "pluto has none of its connections"
    else:
        yield from (f"{_called(cable, name)} is of an earlier file" for name in outdated)
        for each in cable.connections:
            told = () if each.name in outdated else _connection(each, facts)
            yield from (f"{_called(cable, each.name)} {what}" for what in told)
    if facts.nic is None and all(each.routed for each in cable.connections):
        yield "there is no route to the peer"
    if facts.credential is Credential.ABSENT:
        yield f"the secret {authentication_of(cable.ipsec).place(cable)} is missing"
    for shunt in facts.shunts:
        if shunt.policy == "pass" and _concerns(shunt, cable.connections):
            yield f"pluto lets {shunt.source} to {shunt.destination} pass in clear text"


def _connection(connection: Connection, facts: Facts) -> Iterator[str]:
    loaded = facts.connections.get(connection.name)
    if loaded is None:
        yield "isn't loaded"
        return
    caught = loaded.routed and connection.routed
    if loaded.lost:
        yield "has no SA in the kernel, though pluto believes so"
    elif loaded.ike_of == "":
        yield "has a Child SA whose IKE SA is gone: the peer has let go of it"
    elif not loaded.up:
        how = "; pluto negotiates" if loaded.ike is Ike.NEGOTIATING else ""
        yield f"has no Child SA for {connection.protects}{how}"
        if connection.routed and not loaded.routed:
            yield "isn't routed"
    out, into, *_ = xfrm.policies(connection)
    needed: set[Policy] = {out, into} if loaded.up else {out} if caught else set()
    if needed - facts.policies.keys():
        yield "has no policy in the kernel, though pluto believes so"


def _concerns(shunt: pluto.Shunt, connections: tuple[Connection, ...]) -> bool:
    source, destination = ip_network(shunt.source), ip_network(shunt.destination)
    return any(
        _overlap(source, each.local.network) and _overlap(destination, each.remote.network)
        for each in connections
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
        yield f"the MTU {link.mtu} is larger than the {largest_mtu} that path and SAs carry"


def _device(cable: Cable, there: OverlayFacts, link: Link, wanted: OverlayWish) -> Iterator[str]:
    device = wanted.device
    if not link.up:
        yield f"the device {device} is down"
    if str(cable.local_vtep) not in link.addresses:
        yield f"{device} has no address {cable.local_vtep}"
    for mac, gateway in overlay_of(wanted).fdb_entries(cable):
        if (mac, gateway) not in there.fdb:
            yield f"the FDB of {device} sends nothing for {mac} to {gateway}"
    vtep = str(cable.remote_vtep.ip)
    if overlay_of(wanted).has_macs and (vtep, cable.remote.mac) not in there.neighbours:
        yield f"{device} has no neighbour {vtep}"
    for path, value in iproute.settings(cable, wanted):
        if (path, value) not in there.settings:
            yield f"{path} isn't {value}"


def _network(cable: Cable, facts: Facts, wanted: OverlayWish) -> Iterator[str]:
    there = {route[:2]: route for route in facts.overlay.routes}
    for route in iproute.routes(cable, facts.source):
        subnet, vtep, source = route
        if (subnet, vtep) not in there:
            yield f"there is no route to {subnet} over {wanted.device}"
        elif there[subnet, vtep] != route:
            yield f"the route to {subnet} speaks from another address than {source or 'the VTEP'}"
    if facts.leaves_with not in ("", str(cable.local.address)):
        yield f"what is sent to the peer leaves with {facts.leaves_with}, which no policy protects"
    if not facts.overlay.rule:
        yield f"no rule has table {iproute.TABLE} looked up"
