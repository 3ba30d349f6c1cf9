"""Netlink sockets on which the kernel reports changes of nftables and of addresses.

The messages aren't parsed: a reader only learns whether they contain a name (netlink(7)).
"""

import socket
from contextlib import suppress

# <linux/netlink.h>, <linux/netfilter/nfnetlink.h> and <linux/rtnetlink.h>
_NETLINK_NETFILTER = 12
_NFNLGRP_NFTABLES = 7
_RTMGRP_IPV4_IFADDR, _RTMGRP_IPV6_IFADDR = 0x10, 0x100
_LARGEST = 1 << 16  # bytes; a longer message is cut off, which counts as a loss


class Changes:
    """A socket that receives a message for each change; `close` it at the end."""

    def __init__(self, protocol: int, groups: int) -> None:
        flags = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        self._socket = socket.socket(socket.AF_NETLINK, flags, protocol)
        self._socket.bind((0, groups))

    def fileno(self) -> int:
        """Return the descriptor, for select and poll; -1 if closed."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop receiving."""
        self._socket.close()

    def drain(self, *words: bytes) -> bool:
        """Take all messages; tell whether one contains one of `words`, or might have.

        A message may be lost if the socket's buffer is full, or be longer than this one's.
        """
        found = False
        with suppress(BlockingIOError):
            while True:
                try:
                    message, _, flags, _ = self._socket.recvmsg(_LARGEST)
                except BlockingIOError:
                    raise
                except OSError:  # ENOBUFS
                    found = True
                    continue
                cut = flags & socket.MSG_TRUNC
                found = found or bool(cut) or any(word in message for word in words)
        return found


def of_nftables() -> Changes:
    """Return the changes of nftables; a message contains the name of the changed table."""
    return Changes(_NETLINK_NETFILTER, 1 << (_NFNLGRP_NFTABLES - 1))


def of_addresses() -> Changes:
    """Return the changes of the addresses that this host holds."""
    return Changes(socket.NETLINK_ROUTE, _RTMGRP_IPV4_IFADDR | _RTMGRP_IPV6_IFADDR)
