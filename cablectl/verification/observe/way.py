"""Sends echo requests by a device, and sees by which device the answers arrive (ip(7), ipv6(7)).

An answer follows the routes of the peer: so the device by which it arrives shows where the peer
sends what is for the address from which the request came.
"""

import os
import socket
import struct
import time
from ipaddress import ip_address

from cablectl.host.echoes import IP_PKTINFO, IPV6_PKTINFO, PROTOCOLS, leaving
from cablectl.linux import icmp

TRIES = 3
PATIENCE = 0.5  # seconds for an answer
_IPV6_RECVPKTINFO = 49  # linux/in6.h


def answers_by(device: str, source: str, target: str) -> str:
    """Return the device by which an answer arrives to a request sent by `device`.

    Empty if no answer arrives, or if the request can't be sent: then nothing is known.
    """
    try:
        with _socket(source) as sender:
            return _answers_by(sender, socket.if_nametoindex(device), source, target)
    except OSError:  # the device, the address or a route is missing
        return ""


def _socket(source: str) -> socket.socket:
    """Return a socket for ICMP that tells by which device a packet arrives."""
    version = ip_address(source).version
    family = socket.AF_INET if version == 4 else socket.AF_INET6
    made = socket.socket(family, socket.SOCK_RAW, PROTOCOLS[version])
    try:
        if version == 4:
            made.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
        else:
            made.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
        made.bind((source, 0))
    except OSError:
        made.close()
        raise
    return made


def _answers_by(sender: socket.socket, index: int, source: str, target: str) -> str:
    version = ip_address(source).version
    identifier, token = int.from_bytes(os.urandom(2)), os.urandom(8)
    control = [leaving(ip_address(source), index)]
    for number in range(TRIES):
        request = icmp.request(version, identifier, number, token)
        sender.sendmsg([request], control, 0, (target, 0))
        end = time.monotonic() + PATIENCE
        while (left := end - time.monotonic()) > 0:
            sender.settimeout(left)
            try:
                packet, received, _, _ = sender.recvmsg(65535, 256)
            except TimeoutError:
                break
            if icmp.answered(version, packet, identifier, token) is not None:
                return socket.if_indextoname(_index(received))
    return ""


def _index(received: list[tuple[int, int, bytes]]) -> int:
    """Return the number of the device by which a packet arrived; 0 if the kernel doesn't tell."""
    for level, kind, data in received:
        if (level, kind) == (socket.IPPROTO_IP, IP_PKTINFO):
            return int(struct.unpack_from("@i", data)[0])
        if (level, kind) == (socket.IPPROTO_IPV6, IPV6_PKTINFO):
            return int(struct.unpack_from("@16xi", data)[0])
    return 0
