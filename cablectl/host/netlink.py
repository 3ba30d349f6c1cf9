"""Netlink sockets on which the kernel reports changes of nftables, of the network and of IPsec.

The messages aren't parsed, except for whose neighbour one is: a reader only learns whether they
contain a name (netlink(7)).
"""

import socket
import struct
from collections.abc import Callable, Iterable, Iterator
from errno import ENOBUFS

from cablectl.model.cable import Cable

# <linux/netlink.h>, <linux/netfilter/nfnetlink.h>, <linux/rtnetlink.h> and <linux/xfrm.h>
_NETLINK_XFRM, _NETLINK_NETFILTER = 6, 12
_NFNLGRP_NFTABLES = 7
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100
# Groups: links, neighbours (with forwarding entries), addresses, routes and rules of both versions.
_RTNLGRP = (1, 3, 5, 7, 8, 9, 11, 19)
_RTNLGRP_NETCONF = (24, 25)
_XFRMNLGRP_SA, _XFRMNLGRP_POLICY = 3, 4
_RTM_NEIGH = (28, 29)  # RTM_NEWNEIGH, RTM_DELNEIGH
_NEIGHBOUR = struct.Struct("=4xH10xB3xi")  # struct nlmsghdr, and struct ndmsg up to its index
_LARGEST = 1 << 16  # bytes; a longer message is cut off, which counts as a loss

_XFRM_MSG_FLUSH = (28, 29)  # XFRM_MSG_FLUSHSA, XFRM_MSG_FLUSHPOLICY
_TYPE = struct.Struct("=4xH")  # struct nlmsghdr up to its type

# Tells whether a message concerns whoever gave the words.
Concerns = Callable[[bytes, tuple[bytes, ...]], bool]


def has_one(message: bytes, words: tuple[bytes, ...]) -> bool:
    """Tell whether a message contains one of the words."""
    return any(word in message for word in words)


class Changes:
    """A socket that receives a message for each change; `close` it at the end."""

    def __init__(self, source: socket.socket, concerns: Concerns = has_one) -> None:
        source.setblocking(False)
        self._socket, self._concerns = source, concerns

    def fileno(self) -> int:
        """Return the descriptor, for select and poll; -1 if closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop receiving."""
        self._socket.close()

    def drain(self, *words: bytes) -> bool:
        """Take all messages; tell whether one of them concerns, or may concern, one of `words`.

        A lost message may have contained any word, and so may one that was cut off.
        """
        found = False
        while True:
            try:
                message, _, flags, _ = self._socket.recvmsg(_LARGEST)
            except BlockingIOError:
                return found
            except OSError as error:
                if error.errno != ENOBUFS:
                    raise
                found = True
            else:
                cut_off = bool(flags & socket.MSG_TRUNC)
                found = found or cut_off or self._concerns(message, words)


def of_nftables() -> Changes:
    """Return the changes of nftables; a message contains the name of the changed table."""
    return Changes(_opened(_NETLINK_NETFILTER, _bits(_NFNLGRP_NFTABLES)))


def of_addresses() -> Changes:
    """Return the changes of the addresses that this host holds."""
    return Changes(_opened(socket.NETLINK_ROUTE, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR))


def of_network() -> Changes:
    """Return the changes of devices, addresses, neighbours, forwarding entries, routes and rules.

    A message contains the addresses of what changed, and a device's name or number. The kernel
    reports all the time how it finds the neighbours of the NIC; of those only the ones of a device
    that is one of the words count.
    """
    return Changes(_opened(socket.NETLINK_ROUTE, _bits(*_RTNLGRP)), concerns_network)


def concerns_network(message: bytes, words: tuple[bytes, ...]) -> bool:
    """Tell whether a message has one of the words, and is about no neighbour of another device."""
    return has_one(message, words) and _is_near(message, words)


def _is_near(message: bytes, words: tuple[bytes, ...]) -> bool:
    """Tell whether a message is about no neighbour, or about one of a device in `words`."""
    if len(message) < _NEIGHBOUR.size:
        return True
    kind, family, index = _NEIGHBOUR.unpack_from(message)
    if kind not in _RTM_NEIGH or family not in (socket.AF_INET, socket.AF_INET6):
        return True  # a forwarding entry has the family AF_BRIDGE
    try:
        return socket.if_indextoname(index).encode() in words
    except OSError:  # the device is gone, which is a message of its own
        return False


def of_settings() -> Changes:
    """Return the changes of what sysctl sets for a device, such as rp_filter and forwarding."""
    return Changes(_opened(socket.NETLINK_ROUTE, _bits(*_RTNLGRP_NETCONF)))


def of_ipsec() -> Changes:
    """Return the changes of SAs and policies; a message contains the addresses of both ends."""
    source = _opened(_NETLINK_XFRM, _bits(_XFRMNLGRP_SA, _XFRMNLGRP_POLICY))
    return Changes(source, concerns_ipsec)


def concerns_ipsec(message: bytes, words: tuple[bytes, ...]) -> bool:
    """Tell whether a message has one of the words, or says that everything was flushed."""
    flushed = len(message) >= _TYPE.size and _TYPE.unpack_from(message)[0] in _XFRM_MSG_FLUSH
    return flushed or has_one(message, words)


def _bits(*groups: int) -> int:
    return sum(1 << (group - 1) for group in groups)


def _opened(protocol: int, groups: int) -> socket.socket:
    source = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    source.bind((0, groups))
    return source


def words_of(cables: Iterable[Cable]) -> tuple[bytes, ...]:
    """Return what a message about these cables contains at least one of.

    Such as the name of a device, an address, or the number of a table, as the kernel has them.
    """
    return tuple(dict.fromkeys(word for cable in cables for word in _words_of(cable)))


def _words_of(cable: Cable) -> Iterator[bytes]:
    yield b"cablectl"  # tables of nftables
    yield from (cable.local.address.packed, cable.remote_host.packed)
    yield from (network.network_address.packed for network in cable.routed_networks)
    if cable.routes.table:
        yield struct.pack("=I", cable.routes.table)
    if cable.overlay:
        yield cable.overlay.device.encode()
        yield from (cable.local_vtep.packed, cable.remote_vtep.packed)
