"""Clear VXLAN packets of an attacker: the right VNI, the right MACs, any source address."""

from __future__ import annotations

import socket
import struct
from ipaddress import IPv4Address

from cablectl.model.cable import Cable
from cablectl.model.wishes import Vxlan

from .rooms import Room

ETH_P_IP = 0x0800
I_FLAG = 0x08  # says that the VNI is valid, RFC 7348, section 5


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    total = (total & 0xFFFF) + (total >> 16)
    return ~(total + (total >> 16)) & 0xFFFF


def ipv4(source: IPv4Address, target: IPv4Address, protocol: int, payload: bytes) -> bytes:
    """Return an IPv4 packet with a header of 20 bytes."""
    ends = source.packed + target.packed
    head = struct.pack("!BBHHHBB", 0x45, 0, 20 + len(payload), 0, 0, 64, protocol)
    return head + struct.pack("!H", checksum(head + b"\0\0" + ends)) + ends + payload


def vxlan(cable: Cable, source: IPv4Address) -> bytes:
    """Return a VXLAN packet from `source` to the local gateway that contains an echo request."""
    assert isinstance(cable.overlay, Vxlan)
    echo = struct.pack("!BBHHH", 8, 0, 0, 1, 1)
    echo = echo[:2] + struct.pack("!H", checksum(echo)) + echo[4:]
    ends = (IPv4Address(cable.remote_vtep.ip), IPv4Address(cable.local_vtep.ip))
    macs = bytes.fromhex((cable.local.mac + cable.remote.mac).replace(":", ""))
    inner = macs + ETH_P_IP.to_bytes(2) + ipv4(*ends, socket.IPPROTO_ICMP, echo)
    header = struct.pack("!BxxxI", I_FLAG, cable.overlay.vni << 8)
    udp = struct.pack("!HHHH", 50000, cable.overlay.port_number, 8 + len(header + inner), 0)
    local = IPv4Address(cable.local.address)
    return ipv4(source, local, socket.IPPROTO_UDP, udp + header + inner)


def send(sender: Room, target: Room, packet: bytes, count: int) -> None:
    """Send a packet `count` times by a packet socket, which bypasses IPsec and nftables."""
    mac = target.run("cat", "/sys/class/net/eth0/address").stdout.strip().replace(":", "")
    with sender.socket() as wire:
        wire.bind(("eth0", ETH_P_IP))
        frame = bytes.fromhex(mac) + wire.getsockname()[4] + ETH_P_IP.to_bytes(2) + packet
        for _ in range(count):
            wire.send(frame)
