"""Netlink sockets on which the kernel reports changes of nftables and of addresses.

The messages aren't parsed: a reader only learns whether they contain a name (netlink(7)).
"""

import socket
from errno import ENOBUFS

# <linux/netlink.h>, <linux/netfilter/nfnetlink.h> and <linux/rtnetlink.h>
_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100
_LARGEST = 1 << 16  # bytes; a longer message is cut off, which counts as a loss


class Changes:
    """A socket that receives a message for each change; `close` it at the end."""

    def __init__(self, source: socket.socket) -> None:
        source.setblocking(False)
        self._socket = source

    def fileno(self) -> int:
        """Return the descriptor, for select and poll; -1 if closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop receiving."""
        self._socket.close()

    def drain(self, *words: bytes) -> bool:
        """Take all messages; tell whether one of them contains, or may contain, one of `words`.

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
                found = found or cut_off or any(word in message for word in words)


def of_nftables() -> Changes:
    """Return the changes of nftables; a message contains the name of the changed table."""
    return _changes(_NETLINK_NETFILTER, 1 << (_NFNLGRP_NFTABLES - 1))


def of_addresses() -> Changes:
    """Return the changes of the addresses that this host holds."""
    return _changes(socket.NETLINK_ROUTE, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR)


def _changes(protocol: int, groups: int) -> Changes:
    source = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
    source.bind((0, groups))
    return Changes(source)
