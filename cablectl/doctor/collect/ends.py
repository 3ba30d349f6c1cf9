"""What of this host concerns the cable of a file, and how the peer answers, as evidence."""

import os
import stat
from pathlib import Path

from cablectl.doctor.collect import peer
from cablectl.doctor.evidence import Ends, Key, Pings, Reply, Route
from cablectl.doctor.ike import IKE_PORT
from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Facts, Link
from cablectl.host import daemon, ipsec_state, keys, offloading, probe, reading
from cablectl.host.paths import ways
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import secrets_file
from cablectl.linux import xfrm
from cablectl.linux.iproute import SYSCTL
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyNetwork, Mode, PskFile
from cablectl.verification.observe.echo import Echo
from cablectl.verification.proof import PAYLOAD

PINGS = 2


def collect_ends(cable: Cable, files: str, links: dict[str, Link]) -> Ends:
    """Return it; whatever can't be read is left out."""
    held_by, route = _held_by(cable, links), _route(cable)
    overlay = [cable.overlay.device] if cable.overlay and cable.overlay.device in links else []
    inner = {str(each): _leads_to(each) for each in _subnets(cable)}
    facts, unread = _facts(cable)
    pings = _pings(cable, facts) if overlay else None
    log = PlutoLog(whole=True)
    return Ends(
        files=files,
        held_by=held_by,
        route=route,
        inner=inner,
        filters=_filters(cable, [*([held_by] if held_by else ()), *overlay]),
        forwards=_forwards(cable, [*overlay, *inner.values()]),
        service_port=daemon.service_port(),
        replies=_replies(cable, facts) if held_by and route.device else {},
        key=_key(cable),
        logged={
            each.name: secrets_file.masked_log(log.about(each.name)) for each in cable.connections
        },
        facts=facts,
        unread=unread,
        offload=offloading.offload_of((cable,))[0] if facts and cable.connections else None,
        received=_received(overlay[0]) if overlay else None,
        pings=pings,
    )


def _held_by(cable: Cable, links: dict[str, Link]) -> str:
    local = f"{cable.local.address}/"
    held = (
        name for name, link in links.items() if any(a.startswith(local) for a in link.addresses)
    )
    return next(held, "")


def _route(cable: Cable) -> Route:
    way = ways(cable.local.address, (cable.remote_host,)).get(cable.remote_host)
    if way:
        return Route(way.device, way.mtu)
    told = probe.run("ip", "route", "get", str(cable.remote_host), "from", str(cable.local.address))
    return Route(error=told.stderr.partition("\n")[0])


def _subnets(cable: Cable) -> tuple[AnyNetwork, ...]:
    """Return the local subnets, whose hosts this gateway forwards for."""
    return cable.local.networks if cable.overlay or cable.mode is Mode.TUNNEL else ()


def _leads_to(subnet: AnyNetwork) -> str:
    """Return the device that leads to a subnet; nothing if there is no route."""
    host_of_it = subnet[min(1, subnet.num_addresses - 1)]
    routes = probe.decoded(probe.if_any("ip", "-j", "route", "get", str(host_of_it)))
    return str(routes[0]["dev"]) if routes else ""


def _filters(cable: Cable, devices: list[str]) -> dict[str, int]:
    """Return rp_filter as it is in force: the larger of that of all devices and its own."""
    if cable.local.address.version == 6:  # which has none
        return {}
    told = {each: _setting(f"ipv4/conf/{each}/rp_filter") for each in ("all", *devices)}
    return {each: max(told["all"], told[each]) for each in devices}


def _forwards(cable: Cable, devices: list[str]) -> dict[str, bool]:
    """Return which of the devices forward; with IPv6 the host does as a whole, or not."""
    if not _subnets(cable):
        return {}
    if cable.local.address.version == 6:
        return {"this host": _setting("ipv6/conf/all/forwarding") > 0}
    names = dict.fromkeys(each for each in devices if each not in ("", "lo"))
    return {each: _setting(f"ipv4/conf/{each}/forwarding") > 0 for each in names}


def _setting(path: str) -> int:
    try:
        return int(Path(SYSCTL, path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _replies(cable: Cable, facts: Facts | None) -> dict[int, Reply]:
    """Ask the peer, unless it may be anywhere, or what is sent there is the cable's own traffic."""
    remote = next((each.remote for each in cable.connections), None)
    if remote is None or remote.host is None:
        return {}
    selected = cable.overlay is None and cable.mode is Mode.TRANSPORT
    caught = facts is None or facts.policies.keys() & xfrm.policies_of(cable.connections)
    if selected and caught:
        return {}
    port = remote.ike_port or IKE_PORT
    return peer.ask(cable.local.address, remote.host, dict.fromkeys((port, IKE_PORT)))


def _key(cable: Cable) -> Key | None:
    psk = cable.ipsec.psk
    if not cable.connections or os.geteuid() != 0:
        return None
    found = keys.find(cable)
    if not isinstance(psk, PskFile):
        place = f"in the variable {psk.variable}"
    elif found.problems:
        place = psk.path
    else:
        there = Path(psk.path).stat()
        owner = f"user {there.st_uid}" if there.st_uid else "root"
        place = f"{psk.path}, mode {stat.S_IMODE(there.st_mode):04o}, of {owner}"
    return Key(place, found.problems, found.warnings)


def _facts(cable: Cable) -> tuple[Facts | None, str]:
    try:
        return reading.facts(cable), ""
    except CablectlError as error:
        return None, error.message


def _received(device: str) -> int | None:
    """Return how many packets a device got."""
    links = probe.decoded(probe.if_any("ip", "-s", "-j", "link", "show", "dev", device))
    return int(links[0]["stats64"]["rx"]["packets"]) if links else None


def _pings(cable: Cable, facts: Facts | None) -> Pings | None:
    """Ping the peer's VTEP, if the whole cable should carry that."""
    if facts is None or not all(facts.is_up(each.name) for each in cable.connections):
        return None
    ends = (str(each.ip) for each in (cable.local_vtep, cable.remote_vtep))
    try:
        with Echo(cable.local_vtep.version, *ends) as sender:
            before = _carried(cable)
            told = sender.several(PINGS, PAYLOAD)
            after = _carried(cable)
    except CablectlError:  # what hinders it is found elsewhere
        return None
    out, into = (max(0, b - a) for a, b in zip(before, after, strict=True))  # a new SA begins at 0
    return Pings(told.sent, told.answered, out, into, told.error)


def _carried(cable: Cable) -> tuple[int, int]:
    """Return how many bytes the cable's SAs carried, out and in."""
    local = str(cable.local.address)
    sas = ipsec_state.sas_of(cable) if cable.connections else ()
    into = sum(sa.bytes for sa in sas if sa.destination == local)
    return sum(sa.bytes for sa in sas) - into, into
