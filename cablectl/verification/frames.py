"""What a capture of the wire holds of a cable: its ESP, and what of it is in clear text.

A packet is what follows the link's header. What is clear text is what the guard would drop: the
overlay's port with its VNI, GRE with its key, the pairs of subnets, or all that two hosts say.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from msgspec import Struct

from cablectl.linux.overlay.protocol import Packet, between
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, AnyNetwork, Mode

ENOUGH = 128  # bytes of a packet: the headers of IP and UDP, the first of an overlay
_UDP, _ESP, _ICMPV6 = 17, 50, 58
_FRAGMENT = 44
_EXTENSIONS = (0, 43, 60)  # hop by hop, routing, destination: RFC 8200, section 4
_UDP_HEADER = 8
_NEIGHBOUR_DISCOVERY = range(133, 138)  # RFC 4861, section 4


class Captured(NamedTuple):
    """A packet from the capture: whether this host sent it, when (ns since 1970), its beginning."""

    outgoing: bool
    stamp: int
    data: bytes


class Tally(Struct, frozen=True, kw_only=True):
    """How many packets there were of each kind, each way, and how many in all."""

    all: int = 0
    esp_out: int = 0
    esp_in: int = 0
    clear_out: int = 0
    clear_in: int = 0


def tally(cable: Cable, sas: Iterable[SecurityAssociation], captured: Iterable[Captured]) -> Tally:
    """Count the ESP of exactly these SAs, and what of the cable is in clear text.

    In tunnel mode the kernel shows a capture what came in twice: as ESP, then as what was in it,
    with the very time at which the ESP came. Such a one was not in clear text on the wire.
    """
    ours = {(ip_address(sa.destination), int(sa.spi, 16)) for sa in sas}
    is_clear = clear_text(cable)
    packets = [(each, parse(each.data)) for each in captured]
    esp = [each for each, packet in packets if packet and _sa(packet) in ours]
    clear = [each for each, packet in packets if packet and is_clear(packet, each.outgoing)]
    decrypted = {each.stamp for each in esp if not each.outgoing}
    return Tally(
        all=len(packets),
        esp_out=sum(each.outgoing for each in esp),
        esp_in=sum(not each.outgoing for each in esp),
        clear_out=sum(each.outgoing for each in clear),
        clear_in=sum(not each.outgoing and each.stamp not in decrypted for each in clear),
    )


def parse(data: bytes) -> Packet | None:
    """Return the packet; None if it isn't one of IP, or is cut short."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        return _ipv4(data)
    if version == 6 and len(data) >= 40:
        return _ipv6(data)
    return None


def _ipv4(data: bytes) -> Packet:
    later = int.from_bytes(data[6:8]) & 0x1FFF
    payload = b"" if later else data[4 * (data[0] & 15) :]
    return Packet(IPv4Address(data[12:16]), IPv4Address(data[16:20]), data[9], payload)


def _ipv6(data: bytes) -> Packet:
    source, destination = IPv6Address(data[8:24]), IPv6Address(data[24:40])
    protocol, rest = data[6], data[40:]
    while protocol in (*_EXTENSIONS, _FRAGMENT) and len(rest) >= 8:
        if protocol == _FRAGMENT and int.from_bytes(rest[2:4]) & 0xFFF8:
            return Packet(source, destination, rest[0], b"")
        length = 8 if protocol == _FRAGMENT else 8 * (1 + rest[1])
        protocol, rest = rest[0], rest[length:]
    return Packet(source, destination, protocol, rest)


def _sa(packet: Packet) -> tuple[AnyAddress, int] | None:
    """Return what tells the SA of ESP, bare or in UDP (RFC 3948): destination and SPI."""
    begin = {_ESP: 0, _UDP: _UDP_HEADER}.get(packet.protocol)
    if begin is None:
        return None
    return packet.destination, int.from_bytes(packet.payload[begin : begin + 4])


def clear_text(cable: Cable) -> Callable[[Packet, bool], bool]:
    """Return what tells whether a packet, outgoing or not, is the cable's own in clear text."""
    if cable.mode is Mode.TUNNEL:
        ours, theirs = cable.local.networks, cable.remote.networks

        def between_subnets(packet: Packet, outgoing: bool) -> bool:
            # The other way round it is the gateway's own side, which may be on the same wire.
            source, target = (ours, theirs) if outgoing else (theirs, ours)
            return _within(packet.source, source) and _within(packet.destination, target)

        return between_subnets
    if cable.overlay:
        overlay = overlay_of(cable.overlay)
        return lambda packet, _: overlay.matches(cable, packet)
    return _between_hosts(cable)


def _between_hosts(cable: Cable) -> Callable[[Packet, bool], bool]:
    ports = {port.to_bytes(2) for port in cable.ike_ports}

    def is_clear(packet: Packet, _: bool) -> bool:
        if not between(cable, packet) or not packet.payload:
            return False
        if packet.protocol == _UDP:
            return packet.payload[2:4] not in ports
        if packet.protocol == _ICMPV6:
            return packet.payload[0] not in _NEIGHBOUR_DISCOVERY
        return packet.protocol != _ESP

    return is_clear


def _within(address: AnyAddress, networks: tuple[AnyNetwork, ...]) -> bool:
    return any(address in network for network in networks)
