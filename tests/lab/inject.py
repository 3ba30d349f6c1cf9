"""Packets of an attacker: clear packets of an overlay, and packets between subnets.

Whatever the packet, it carries an echo request whose payload repeats PATTERN.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Sequence

from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, Geneve, Gre, IpProtocol, Vxlan

from .rooms import Room
from .traffic import PATTERN

ETHERTYPES = {4: 0x0800, 6: 0x86DD}
ECHO = {4: (socket.IPPROTO_ICMP, 8), 6: (socket.IPPROTO_ICMPV6, 128)}  # protocol, echo request
I_FLAG = 0x08  # says that the VNI is valid, RFC 7348, section 5
ETHERNET = 0x6558  # the protocol type of Geneve's payload, RFC 8926, section 3.4
KEY_FLAG = 0x2000  # RFC 2890, section 2
FRAGMENT = 44  # the next header of a fragment, RFC 8200, section 4.5
# Sends UDP as an ordinary process: address, port, payload in hex, how often.
UDP_SENDER = """
import socket, sys
family = socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET
with socket.socket(family, socket.SOCK_DGRAM) as udp:
    for _ in range(int(sys.argv[4])):
        try:
            udp.sendto(bytes.fromhex(sys.argv[3]), (sys.argv[1], int(sys.argv[2])))
        except OSError:
            pass
"""


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    data += bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ip(source: AnyAddress, target: AnyAddress, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 or IPv6 packet without options."""
    ends = source.packed + target.packed
    if source.version == 6:
        return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    return head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + payload


def with_checksum(
    at: int, source: AnyAddress, target: AnyAddress, protocol: int, data: bytes
) -> bytes:
    """Return a transport header and its payload with the checksum at a place (RFC 8200, 8.1)."""
    pseudo = source.packed + target.packed + struct.pack("!II", len(data), protocol)
    return data[:at] + struct.pack("!H", checksum(pseudo + data)) + data[at + 2 :]


def udp(source: AnyAddress, target: AnyAddress, port: int, payload: bytes) -> bytes:
    """Return a UDP packet."""
    data = struct.pack("!HHHH", 50000, port, 8 + len(payload), 0) + payload
    return ip(source, target, 17, with_checksum(6, source, target, 17, data))


def echo(source: AnyAddress, target: AnyAddress) -> bytes:
    """Return a packet with an echo request."""
    protocol, kind = ECHO[source.version]
    data = struct.pack("!BBHHH", kind, 0, 0, 1, 1) + bytes.fromhex(PATTERN) * 8
    if source.version == 4:
        data = data[:2] + struct.pack("!H", checksum(data)) + data[4:]
    else:
        data = with_checksum(2, source, target, protocol, data)
    return ip(source, target, protocol, data)


def in_overlay(cable: Cable) -> bytes:
    """Return what the outer IP header, or for UDP the UDP header, is in front of.

    It has an echo request from the remote VTEP to the local one.
    """
    inner = echo(cable.remote_vtep.ip, cable.local_vtep.ip)
    kind = ETHERTYPES[cable.local_vtep.version]
    frame = bytes.fromhex((cable.mac_of(cable.local) + cable.mac_of(cable.remote)).replace(":", ""))
    frame += kind.to_bytes(2) + inner
    match cable.overlay:
        case Vxlan(vni=vni):
            return struct.pack("!BxxxI", I_FLAG, vni << 8) + frame
        case Geneve(vni=vni):
            return struct.pack("!BBHI", 0, 0, ETHERNET, vni << 8) + frame
        case Gre(key=key):
            return struct.pack("!HHI", KEY_FLAG, kind, key) + inner
        case _:
            return inner


def of_overlay(cable: Cable, source: AnyAddress) -> bytes:
    """Return a clear packet of the overlay from `source` to the local gateway."""
    assert cable.overlay
    target, payload = cable.local_underlay, in_overlay(cable)
    if port := cable.overlay.port_number:
        return udp(source, target, port, payload)
    protocol: IpProtocol = cable.overlay.protocol(source.version)
    return ip(source, target, protocol.number, payload)


def fragments(packet: bytes, size: int = 8) -> list[bytes]:
    """Return the packet in fragments; each but the last has `size` bytes, a multiple of 8."""
    version = packet[0] >> 4
    header = 20 if version == 4 else 40
    payload, found = packet[header:], []
    for start in range(0, len(payload), size):
        part, more = payload[start : start + size], int(start + size < len(payload))
        if version == 4:
            head = bytearray(packet[:20])
            head[2:4] = (20 + len(part)).to_bytes(2)
            head[4:8] = struct.pack("!HH", 7, more << 13 | start // 8)
            head[10:12] = b"\0\0"
            head[10:12] = checksum(bytes(head)).to_bytes(2)
        else:
            head = bytearray(packet[:40])
            head += struct.pack("!BxHI", head[6], start | more, 7)
            head[4:6], head[6] = (8 + len(part)).to_bytes(2), FRAGMENT
        found.append(bytes(head) + part)
    return found


def send(
    sender: Room,
    target: Room,
    packets: bytes | Sequence[bytes],
    count: int,
    device: str = "eth0",
) -> None:
    """Send packets `count` times by a packet socket, which bypasses IPsec and nftables.

    `device` is the target's device.
    """
    mac = target.run("cat", f"/sys/class/net/{device}/address").stdout.strip().replace(":", "")
    sequence = [packets] if isinstance(packets, bytes) else packets
    with sender.socket() as wire:
        wire.bind(("eth0", 0))
        for _ in range(count):
            for packet in sequence:
                kind = ETHERTYPES[packet[0] >> 4].to_bytes(2)
                wire.send(bytes.fromhex(mac) + wire.getsockname()[4] + kind + packet)


def send_udp(
    sender: Room, target: AnyAddress, port: int, payload: bytes, count: int, user: int = 65534
) -> None:
    """Send UDP as a process of a user without any privilege."""
    drop = ("setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups")
    words = (str(target), str(port), payload.hex(), str(count))
    # Another Python may be in root's home directory.
    sender.run(*drop, "/usr/bin/python3", "-c", UDP_SENDER, *words)
