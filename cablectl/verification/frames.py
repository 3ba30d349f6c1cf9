"""Counts the packets of a cable on a device: its ESP, and its packets in clear text.

A packet begins after the link header. Clear text is what the guard would drop: the overlay's
packets, packets between the subnets, or all packets between the two hosts.
"""

from collections import Counter
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv6Address, ip_address

from msgspec import Struct

from cablectl.linux.overlay.protocol import Packet, between
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, AnyNetwork

ENOUGH = 128  # bytes of a packet; they include the headers of IP, UDP and an overlay
_UDP, _ESP, _ICMPV6 = 17, 50, 58
FRAGMENT = 44
EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination: RFC 8200, section 4
_UDP_HEADER = 8
MAX_SAS = 1 << 16  # pairs of destination and SPI; a host has far fewer SAs with one peer
MAX_RECENT = 1 << 14  # incoming ESP packets, which the kernel decrypts within milliseconds
_NEIGHBOUR_DISCOVERY = range(133, 138)  # RFC 4861, section 4


Sa = tuple[AnyAddress, int]  # destination and SPI, which identify an SA (RFC 4301, section 4.1)


class Tally(Struct, frozen=True, kw_only=True):
    """The number of captured packets, by kind and direction."""

    all: int = 0
    esp_out: int = 0
    esp_in: int = 0
    clear_out: int = 0
    clear_in: int = 0


class Count:
    """Counts packets as they are captured, in bounded memory.

    Which SAs are the cable's is known at the end. So the ESP packets are counted by destination and
    SPI. In tunnel mode a capture sees an incoming packet twice: as ESP, then decrypted, with the
    same time stamp. The decrypted packet wasn't in clear text on the wire.
    """

    def __init__(self, cable: Cable) -> None:
        self.overflow = 0  # ESP packets that had no room, with random SPIs
        self._is_clear = clear_text(cable)
        self._ports = frozenset(port.to_bytes(2) for port in cable.ike_ports)
        self._all = self._clear_out = 0
        self._esp: Counter[tuple[bool, Sa]] = Counter()
        self._clear_in: Counter[Sa | None] = Counter()  # by the SA of the same time stamp
        self._recent: dict[int, Sa] = {}  # by time stamp, the oldest first

    def add(self, outgoing: bool, stamp: int, data: bytes) -> None:
        """Count a packet: whether this host sent it, nanoseconds since 1970, its first bytes."""
        self._all += 1
        packet = parse(data)
        if packet is None:
            return
        sa = _sa(packet, self._ports)
        if sa:
            self._add_esp(outgoing, stamp, sa)
        if not self._is_clear(packet, outgoing):
            return
        if outgoing:
            self._clear_out += 1
        else:
            self._clear_in[self._recent.get(stamp)] += 1

    def _add_esp(self, outgoing: bool, stamp: int, sa: Sa) -> None:
        if len(self._esp) >= MAX_SAS and (outgoing, sa) not in self._esp:
            self.overflow += 1
            return
        self._esp[outgoing, sa] += 1
        if not outgoing:
            self._recent[stamp] = sa
            if len(self._recent) > MAX_RECENT:
                del self._recent[next(iter(self._recent))]

    def tally(self, sas: Iterable[SecurityAssociation]) -> Tally:
        """Return the number of ESP packets of these SAs, and of packets in clear text."""
        ids = {(ip_address(sa.destination), int(sa.spi, 16)) for sa in sas}
        return Tally(
            all=self._all,
            esp_out=sum(self._esp[True, sa] for sa in ids),
            esp_in=sum(self._esp[False, sa] for sa in ids),
            clear_out=self._clear_out,
            clear_in=sum(number for sa, number in self._clear_in.items() if sa not in ids),
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
    while protocol in (*EXTENSIONS, FRAGMENT) and len(rest) >= 8:
        if protocol == FRAGMENT and int.from_bytes(rest[2:4]) & 0xFFF8:
            return Packet(source, destination, rest[0], b"")
        length = 8 if protocol == FRAGMENT else 8 * (1 + rest[1])
        protocol, rest = rest[0], rest[length:]
    return Packet(source, destination, protocol, rest)


def _sa(packet: Packet, ports: frozenset[bytes]) -> Sa | None:
    """Return the SA of ESP, bare or in UDP (RFC 3948) at one of the ports; None of others.

    In UDP, an SPI of 0 marks IKE.
    """
    payload = packet.payload
    if packet.protocol == _UDP and (payload[:2] in ports or payload[2:4] in ports):
        payload = payload[_UDP_HEADER:]
    elif packet.protocol != _ESP:
        return None
    spi = int.from_bytes(payload[:4])
    return (packet.destination, spi) if spi else None


def clear_text(cable: Cable) -> Callable[[Packet, bool], bool]:
    """Return the function that tells whether a packet is the cable's own, in clear text."""
    if cable.joins_subnets:
        return _between_subnets(cable)
    if cable.overlay:
        overlay = overlay_of(cable.overlay)
        return lambda packet, _: overlay.matches(cable, packet)
    return _between_hosts(cable)


def _between_subnets(cable: Cable) -> Callable[[Packet, bool], bool]:
    local, remote = cable.local.networks, cable.remote.networks
    gateways = {cable.local.address, cable.remote_host}
    ports = frozenset(port.to_bytes(2) for port in cable.ike_ports)

    def is_clear(packet: Packet, outgoing: bool) -> bool:
        # In the opposite direction it is traffic of the gateway's own subnet on the same wire.
        source, target = (local, remote) if outgoing else (remote, local)
        if not (_within(packet.source, source) and _within(packet.destination, target)):
            return False
        # The gateways may be within these subnets.
        between_gateways = {packet.source, packet.destination} == gateways
        return not (between_gateways and _of_ipsec(packet, ports))

    return is_clear


def _of_ipsec(packet: Packet, ports: frozenset[bytes]) -> bool:
    """Tell whether a packet is IKE or ESP, bare or in UDP at one of the ports."""
    if packet.protocol == _UDP:
        return packet.payload[:2] in ports or packet.payload[2:4] in ports
    return packet.protocol == _ESP


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
