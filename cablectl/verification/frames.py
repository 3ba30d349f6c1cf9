"""Counts the packets of a cable in a capture: its ESP, and its packets in clear text.

A packet begins after the link header. Clear text is what the guard would drop: the overlay's
packets, packets between the subnets, or all packets between the two hosts.
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

ENOUGH = 128  # bytes of a packet; they include the headers of IP, UDP and an overlay
_UDP, _ESP, _ICMPV6 = 17, 50, 58
_FRAGMENT = 44
_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination: RFC 8200, section 4
_UDP_HEADER = 8
_NEIGHBOUR_DISCOVERY = range(133, 138)  # RFC 4861, section 4


class Captured(NamedTuple):
    """A captured packet."""

    outgoing: bool  # this host sent it
    stamp: int  # nanoseconds since 1970
    data: bytes  # its first bytes, at most ENOUGH


class Tally(Struct, frozen=True, kw_only=True):
    """The number of captured packets, by kind and direction."""

    all: int = 0
    esp_out: int = 0
    esp_in: int = 0
    clear_out: int = 0
    clear_in: int = 0


def tally(cable: Cable, sas: Iterable[SecurityAssociation], captured: Iterable[Captured]) -> Tally:
    """Count the ESP packets of these SAs, and the cable's packets in clear text.

    In tunnel mode a capture sees an incoming packet twice: as ESP, then decrypted, with the same
    time stamp. The decrypted packet wasn't in clear text on the wire.
    """
    ids = {(ip_address(sa.destination), int(sa.spi, 16)) for sa in sas}
    is_clear = clear_text(cable)
    packets = [(frame, parse(frame.data)) for frame in captured]
    esp = [frame for frame, packet in packets if packet and _sa(packet) in ids]
    clear = [frame for frame, packet in packets if packet and is_clear(packet, frame.outgoing)]
    decrypted = {frame.stamp for frame in esp if not frame.outgoing}
    return Tally(
        all=len(packets),
        esp_out=sum(frame.outgoing for frame in esp),
        esp_in=sum(not frame.outgoing for frame in esp),
        clear_out=sum(frame.outgoing for frame in clear),
        clear_in=sum(not frame.outgoing and frame.stamp not in decrypted for frame in clear),
    )


def parse(data: bytes) -> Packet | None:
    """Return the IP packet; None if it is another protocol or too short."""
    version = data[0] >> 4 if data else 0
    if version == 4 and len(data) >= 20:
        return _ipv4(data)
    if version == 6 and len(data) >= 40:
        return _ipv6(data)
    return None


def _ipv4(data: bytes) -> Packet:
    fragment_offset = int.from_bytes(data[6:8]) & 0x1FFF
    payload = b"" if fragment_offset else data[4 * (data[0] & 15) :]
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
    """Return the SA's destination and SPI, if it is ESP, bare or in UDP (RFC 3948)."""
    start = {_ESP: 0, _UDP: _UDP_HEADER}.get(packet.protocol)
    if start is None:
        return None
    return packet.destination, int.from_bytes(packet.payload[start : start + 4])


def clear_text(cable: Cable) -> Callable[[Packet, bool], bool]:
    """Return the function that tells whether a packet is the cable's own, in clear text."""
    if cable.mode is Mode.TUNNEL:
        local, remote = cable.local.networks, cable.remote.networks

        def between_subnets(packet: Packet, outgoing: bool) -> bool:
            # In the opposite direction it is traffic of the gateway's own subnet on the same wire.
            source, target = (local, remote) if outgoing else (remote, local)
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
