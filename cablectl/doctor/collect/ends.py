"""Collects the evidence that concerns one cable: from this host, and from the peer."""

import os
import stat
from pathlib import Path
from typing import assert_never

from cablectl.doctor.collect import peer
from cablectl.doctor.evidence import CableEvidence, KeyEvidence, Pings, Reply, Route
from cablectl.doctor.ike import IKE_PORT
from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Facts, Link
from cablectl.host import (
    certificates,
    daemon,
    devices,
    ipsec_state,
    keys,
    nss_store,
    offloading,
    probe,
    reading,
    rotation_state,
)
from cablectl.host.paths import ways
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import secrets_file
from cablectl.linux import xfrm
from cablectl.linux.firewall import traffic
from cablectl.linux.iproute import SYSCTL
from cablectl.model.cable import Cable
from cablectl.model.psk import CablePsk, PskEnv, PskFile, PskPair
from cablectl.model.rotation import RotationPhase
from cablectl.model.wishes import AnyNetwork
from cablectl.model.x509 import Auth
from cablectl.verification.observe.echo import Echo
from cablectl.verification.proof import PAYLOAD

PINGS = 2


def collect_ends(cable: Cable, files: str, links: dict[str, Link]) -> CableEvidence:
    """Return the evidence about a cable; evidence that can't be read is empty or None."""
    local_device, route = _local_device(cable, links), _route(cable)
    overlay = [cable.overlay.device] if cable.overlay and cable.overlay.device in links else []
    subnet_devices = {str(subnet): _device_to(subnet, links) for subnet in _subnets(cable)}
    facts, facts_error = _facts(cable)
    pings = _pings(cable, facts) if overlay else None
    log = PlutoLog(whole=True)
    return CableEvidence(
        files=files,
        local_device=local_device,
        instead="" if local_device else devices.source_towards(cable.remote_host),
        route=route,
        subnet_devices=subnet_devices,
        rp_filters=_rp_filters(cable, [*([local_device] if local_device else ()), *overlay]),
        forwarding=_forwarding(cable, [*overlay, *subnet_devices.values()]),
        service_port=daemon.service_port(),
        replies=_replies(cable, facts) if local_device and route.device else {},
        key=_key(cable),
        log={
            connection.name: secrets_file.masked_log(log.about(connection.name))
            for connection in cable.connections
        },
        facts=facts,
        facts_error=facts_error,
        offload=offloading.offload_of((cable,))[0] if facts and cable.connections else None,
        received=_received(overlay[0]) if overlay else None,
        pings=pings,
        rotation=_rotation(cable),
    )


def _rotation(cable: Cable) -> RotationPhase:
    standings = rotation_state.standings((cable,))
    return standings[0].phase if standings else RotationPhase.NONE


def _local_device(cable: Cable, links: dict[str, Link]) -> str:
    prefix = f"{cable.local.address}/"
    for name, link in links.items():
        if any(address.startswith(prefix) for address in link.addresses):
            return name
    return ""


def _route(cable: Cable) -> Route:
    local, remote = cable.local.address, cable.remote_host
    path = ways(local, (remote,)).get(remote)
    if path:
        return Route(path.device, path.mtu)
    done = probe.run("ip", "route", "get", str(remote), "from", str(local))
    return Route(error=done.stderr.partition("\n")[0])


def _subnets(cable: Cable) -> tuple[AnyNetwork, ...]:
    """Return the local subnets for whose hosts this gateway forwards."""
    return cable.local.networks if cable.carries_subnets else ()


def _device_to(subnet: AnyNetwork, links: dict[str, Link]) -> str:
    """Return the device that leads to a subnet; empty without a route."""
    if device := traffic.device_of(subnet, {name: link.addresses for name, link in links.items()}):
        return device
    host = subnet[min(1, subnet.num_addresses - 1)]
    routes = probe.decoded(probe.if_any("ip", "-j", "route", "get", str(host)))
    return str(routes[0]["dev"]) if routes else ""


def _rp_filters(cable: Cable, devices: list[str]) -> dict[str, int]:
    """Return the effective rp_filter of each device: the larger of `all` and the device's own."""
    if cable.local.address.version == 6:  # rp_filter exists for IPv4 only
        return {}
    for_all = _setting("ipv4/conf/all/rp_filter")
    return {device: max(for_all, _setting(f"ipv4/conf/{device}/rp_filter")) for device in devices}


def _forwarding(cable: Cable, devices: list[str]) -> dict[str, bool]:
    """Return whether each device forwards; for IPv6 one setting covers the whole host."""
    if not _subnets(cable):
        return {}
    if cable.local.address.version == 6:
        return {"this host": _setting("ipv6/conf/all/forwarding") > 0}
    names = dict.fromkeys(device for device in devices if device not in ("", "lo"))
    return {device: _setting(f"ipv4/conf/{device}/forwarding") > 0 for device in names}


def _setting(path: str) -> int:
    try:
        return int(Path(SYSCTL, path).read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0


def _replies(cable: Cable, facts: Facts | None) -> dict[int, Reply]:
    """Ask the peer's ports, unless its address is unknown or the cable takes up the request."""
    remote = next((connection.remote for connection in cable.connections), None)
    if remote is None or remote.host is None:
        return {}
    # The address is inside its own subnet, or the connection is between the two hosts.
    taken = not cable.overlay and any(
        remote.host in connection.remote.network for connection in cable.connections
    )
    if taken and _protected(cable, facts):
        return {}
    port = remote.ike_port or IKE_PORT
    return peer.ask(cable.local.address, remote.host, dict.fromkeys((port, IKE_PORT)))


def _protected(cable: Cable, facts: Facts | None) -> bool:
    """Whether policies take what is sent to the peer, or the guard drops the answer."""
    if facts is None or facts.guard:
        return True
    return bool(facts.policies.keys() & xfrm.policies_of(cable.connections))


def _key(cable: Cable) -> KeyEvidence | None:
    if not cable.connections or os.geteuid() != 0:
        return None
    if cable.ipsec.auth is Auth.CERT:
        found = certificates.finder(cable.certificates, nss_store.read())(cable)
        return KeyEvidence(found.summary, found.problems, found.warnings)
    key = keys.find(cable)
    place = _key_place(cable.psk, found=not key.problems)
    if cable.ppk:
        place += f"; PPK {_key_place(cable.ppk, found=not key.problems)}"
    return KeyEvidence(place, key.problems, key.warnings)


def _key_place(psk: CablePsk, *, found: bool) -> str:
    """Return where the key is, and of a file that was found, who may read it."""
    match psk:
        case PskEnv():
            return f"in the variable {psk.variable}"
        case PskFile() | PskPair():
            if not found:
                return psk.path
            status = Path(psk.path).stat()
            owner = f"user {status.st_uid}" if status.st_uid else "root"
            return f"{psk.path}, mode {stat.S_IMODE(status.st_mode):04o}, owned by {owner}"
        case _:
            assert_never(psk)


def _facts(cable: Cable) -> tuple[Facts | None, str]:
    try:
        return reading.facts(cable), ""
    except CablectlError as error:
        return None, error.message


def _received(device: str) -> int | None:
    """Return how many packets a device has received; None if it doesn't exist."""
    links = probe.decoded(probe.if_any("ip", "-s", "-j", "link", "show", "dev", device))
    return int(links[0]["stats64"]["rx"]["packets"]) if links else None


def _pings(cable: Cable, facts: Facts | None) -> Pings | None:
    """Ping the peer's VTEP, if all connections are up; None if no ping can be sent."""
    if facts is None or not all(facts.is_up(connection.name) for connection in cable.connections):
        return None
    source, target = str(cable.local_vtep.ip), str(cable.remote_vtep.ip)
    try:
        with Echo(cable.local_vtep.version, source, target) as sender:
            out_before, in_before = _carried(cable)
            answers = sender.several(PINGS, PAYLOAD)
            out_after, in_after = _carried(cable)
    except CablectlError:  # another check finds the cause
        return None
    return Pings(
        answers.sent,
        answers.answered,
        max(0, out_after - out_before),  # a new SA counts from 0
        max(0, in_after - in_before),
        answers.error,
    )


def _carried(cable: Cable) -> tuple[int, int]:
    """Return how many bytes the cable's SAs have carried: out, in."""
    local = str(cable.local.address)
    sas = ipsec_state.sas_of(cable) if cable.connections else ()
    received = sum(sa.bytes for sa in sas if sa.destination == local)
    return sum(sa.bytes for sa in sas) - received, received
