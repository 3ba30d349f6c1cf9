"""A rotation gives cables that are up another key: over a detour, which exists meanwhile.

pluto makes no second IKE SA between the same addresses and identities, and never authenticates
again before the old IKE SA is gone (docs/libreswan.md). So a detour is a second cable between the
same gateways that has the next key. It has other names, identities, ports, networks, and a device
and a routing table of its own. Both ends derive it from the file alone.
"""

import zlib
from collections.abc import Iterator, Sequence
from enum import StrEnum
from ipaddress import IPv4Network, IPv6Network

from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.model.cable import DETOUR, Cable, Detour
from cablectl.model.psk import PskEnv
from cablectl.model.wishes import (
    KERNEL_TABLES,
    AnyNetwork,
    Endpoint,
    Geneve,
    Gre,
    Ipip,
    Ipsec,
    Mode,
    OverlayWish,
    Routes,
    Vxlan,
)
from cablectl.model.x509 import ROTATE, Auth, pluto_identity

DEVICE = "rotate-"  # how the name of a detour's device begins
GRE_KEY = 4  # bytes of a GRE header (RFC 2784), and as many of its key (RFC 2890)
_LARGEST_TABLE = 2**32 - 1
# Networks that no file has by default, first those of the VTEPs: Submariner uses 240 to 243.
_NETWORKS: dict[int, tuple[AnyNetwork, ...]] = {
    4: tuple(IPv4Network(f"{first}.0.0.0/8") for first in range(245, 251)),
    6: tuple(IPv6Network(f"fdca:b1e{last:x}::/32") for last in range(2, 8)),
}


class RotationPhase(StrEnum):
    """How far the rotation of a cable's key is on this host."""

    NONE = "none"
    PREPARED = "prepared"
    MOVED = "moved"
    CHANGED = "changed"
    RETURNED = "returned"
    DONE = "done"

    @property
    def words(self) -> str:
        """What carries the traffic in this phase, and which key the cable has."""
        return {
            "none": "not begun",
            "prepared": "the second path is made, and the cable carries the traffic",
            "moved": "the second path carries the traffic, and the cable has the old key",
            "changed": "the second path carries the traffic, and the cable has the new key",
            "returned": "the cable carries the traffic with the new key, beside the second path",
            "done": "the cable has the new key, and the second path is removed",
        }[self]


def phase(*, detour: bool, used: bool, changed: bool) -> RotationPhase:
    """Return the phase: whether the detour exists, its rules, and whether the key is changed."""
    if not detour:
        return RotationPhase.DONE if changed else RotationPhase.NONE
    if used:
        return RotationPhase.CHANGED if changed else RotationPhase.MOVED
    return RotationPhase.RETURNED if changed else RotationPhase.PREPARED


def refuse(cable: Cable) -> None:
    """Raise UsageError for a cable that can't have a detour, with what to do instead."""
    instead = (
        "put the new key in place of the old one on both gateways, then run teardown and connect"
        " on both; packets are lost in between"
    )
    if cable.mode is Mode.NONE:
        raise UsageError("mode: none has no key to rotate", hint="set mode: tunnel or transport")
    if cable.overlay is None:
        raise UsageError(
            "rotate needs an overlay: without one, a second path would have the same traffic"
            " selectors",
            hint=instead,
        )
    if cable.ipsec.auth is Auth.CERT and cable.certificates.nickname:
        raise UsageError(
            "ipsec.cert.nickname: rotate needs the certificate in files, since it imports the next"
            " one into NSS",
            hint="write certificate, key and authority, or pkcs12",
        )
    if cable.ipsec.auth is Auth.PSK and isinstance(cable.ipsec.psk, PskEnv):
        raise UsageError(
            f"ipsec.psk: {{env: {cable.ipsec.psk.variable}}}: rotate needs the keys in files, since"
            " it continues after a restart",
            hint="write psk: {file: /PATH} with the same key in the file of cablectl",
        )
    if not cable.guard:
        raise UsageError(
            "guard: false: only the guard drops the overlay's packets while the key is changed",
            hint="remove guard: false, and run connect on both gateways; or " + instead,
        )
    if cable.routes.priority == 1:
        raise UsageError(
            "routes.priority: 1: the rule of the second path needs a lower number",
            hint="write a larger priority, and run connect",
        )


def plain(cable: Cable) -> Cable:
    """Return the cable as the file has it."""
    return replace(cable, next_key=False, beside="")


def renewed(cable: Cable) -> Cable:
    """Return the cable with the next key."""
    return replace(cable, next_key=True)


def replaced(cable: Cable) -> dict[str, str]:
    """Return the paths of what may be new, each with the path whose place it takes at the end."""
    now, then = (_paths(each(cable)) for each in (plain, renewed))
    return dict(zip(then, now, strict=True))


def _paths(cable: Cable) -> tuple[str, ...]:
    """Return the paths of the credential; none if the key is in the environment."""
    if cable.ipsec.auth is Auth.CERT:
        cert = cable.certificates
        paths = (cert.certificate_path, cert.key_path, cert.authority_path, cert.crl)
        return tuple(dict.fromkeys(path for path in paths if path))
    return () if isinstance(cable.psk, PskEnv) else (cable.psk.path,)


def with_detour(cable: Cable) -> Cable:
    """Return the cable as it is while its detour exists: the guard lets both devices carry it."""
    return replace(cable, beside=_device(cable))


def detours_of(cables: Sequence[Cable]) -> tuple[Cable, ...]:
    """Return the detour of each cable, none of them used yet.

    The cables are of one file and one local end: their detours share a device if the cables do.
    """
    if not cables:
        return ()
    first = cables[0]
    others = tuple(_renamed(other, first.ipsec) for other in first.others)
    bits = {f"{cluster}{DETOUR}": number for cluster, number in first.twins.items()}
    vteps, underlay = _networks(cables)
    overlay, routes = _overlay(first), _routes(first.routes)
    return tuple(
        replace(
            cable,
            local=_renamed(cable.local, cable.ipsec),
            remote=_renamed(cable.remote, cable.ipsec),
            overlay=overlay,
            vtep_network=vteps,
            underlay_network=underlay,
            routes=routes,
            others=others,
            twins=bits,
            beside=cable.overlay.device if cable.overlay else "",
            detour=Detour(cable.local_vtep.ip, cable.remote_vtep.ip),
            next_key=True,
        )
        for cable in cables
    )


def use(detour: Cable, *, used: bool = True) -> Cable:
    """Return a detour that is used, or that isn't."""
    there = detour.detour
    return replace(detour, detour=there and replace(there, used=used))


def _renamed(endpoint: Endpoint, ipsec: Ipsec) -> Endpoint:
    """Return an endpoint with other names: pluto would share the IKE SA of equal ones."""
    identity = endpoint.identity
    if ipsec.auth is Auth.CERT:
        identity = f"{ROTATE}{endpoint.hostname if _is_no_dns_name(identity) else identity}"
    return replace(endpoint, cluster=f"{endpoint.cluster}{DETOUR}", identity=identity)


def _is_no_dns_name(identity: str | None) -> bool:
    return not identity or not pluto_identity(identity).startswith("@")


def _device(cable: Cable) -> str:
    """Return the name of the detour's device, of 15 characters, the most that Linux takes."""
    name = cable.overlay.device if cable.overlay else ""
    return f"{DEVICE}{zlib.crc32(name.encode()):08x}"


def _overlay(cable: Cable) -> OverlayWish | None:
    """Return an overlay whose packets no selector of the cable matches.

    In tunnel mode its own underlay tells them apart, in transport mode the port or the protocol.
    There GRE has no port, so IP in IP takes its place, which leaves more bytes to the packets; and
    GRE takes that of IP in IP, which leaves 8 bytes less.
    """
    wish, device, tunnel = cable.overlay, _device(cable), cable.mode is Mode.TUNNEL
    match wish:
        case Vxlan() | Geneve():
            port = wish.port_number % 65535 + 1
            return replace(wish, device=device, port=port)
        case Gre() if not tunnel:
            return Ipip(device=device, mtu=wish.mtu)
        case Ipip() if not tunnel:
            return Gre(device=device, mtu=wish.mtu and max(576, wish.mtu - 2 * GRE_KEY))
        case _:
            return wish and replace(wish, device=device)


def _routes(routes: Routes) -> Routes:
    """Return the next table that isn't the kernel's, and the rule before the cable's."""
    table = routes.table + 1
    while table in KERNEL_TABLES:
        table += 1
    return Routes(
        table=table if table <= _LARGEST_TABLE else routes.table - 1, priority=routes.priority - 1
    )


def _networks(cables: Sequence[Cable]) -> Iterator[AnyNetwork]:
    """Return the networks of VTEPs and underlay: the first two that nothing in the file overlaps.

    UsageError if there are no two.
    """
    first = cables[0]
    used = [first.vtep_network, first.underlay_network, *first.local.networks]
    ends = {id(end): end for cable in cables for end in (cable.remote, *cable.others)}
    used += [network for end in ends.values() for network in end.networks]
    version = first.local.address.version
    free = [
        network
        for network in _NETWORKS[version]
        if not any(network.version == other.version and network.overlaps(other) for other in used)
    ]
    if len(free) < 2:
        raise UsageError(
            f"rotate needs two networks of {', '.join(map(str, _NETWORKS[version]))} for its second"
            " path, and the file's networks overlap them",
            hint="use other subnets in the file",
        )
    return iter(free[:2])
