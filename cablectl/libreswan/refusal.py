"""Why a negotiation failed, from what pluto prints and logs."""

import re

from msgspec import Struct


class Refusal(Struct, frozen=True):
    """Why a negotiation failed, what to do about it, and pluto's own line."""

    reason: str
    remedy: str
    line: str


# The most specific pattern comes first: pluto also logs the consequences of a cause.
_REFUSALS = (
    (
        r"AUTHENTICATION_FAILED|authentication failed",
        "authentication failed",
        "put the same pre-shared key on both ends, then run connect again",
    ),
    (
        r"(?:dictates|requires) T(?:ransport|unnel) Mode,? but",
        "one end is in transport mode, the other in tunnel mode",
        "set the same mode at both ends; transport mode on Libreswan 5 needs whack --transport",
    ),
    (
        r"cannot identify ourselves",
        "pluto has neither of the connection's addresses",
        "check that `ip address` lists the local address, then: sudo ipsec whack --listen",
    ),
    (r"need --listen", "pluto isn't listening", "sudo ipsec whack --listen"),
    (
        r"Function not implemented|netlink response for Add SA",
        "the kernel refused the SA",
        "boot a kernel that has ESP and the ciphers in ipsec.esp",
    ),
    (
        r"TS_UNACCEPTABLE|compatible Traffic Selectors",
        "the peer has different traffic selectors",
        "use the same mode, overlay, overlay port and subnets at both ends",
    ),
    (
        r"no suitable connection found",
        "the peer asks for a connection that this host doesn't have",
        "copy the same file to both ends, then run connect again on both",
    ),
    (
        r"NO_PROPOSAL_CHOSEN",
        "the peer accepts none of our proposals, or has no such connection",
        "run connect on the peer with the same file; if one end has Libreswan 4 and the other"
        " Libreswan 5 or strongSwan, set esn, maybe pfs_group too (docs/libreswan.md)",
    ),
)


def parse_refusal(output: str) -> Refusal | None:
    """Return why a negotiation failed, from what pluto printed or logged; None if it doesn't say.

    The result is the most specific reason, with the last line that states it.
    """
    newest_first = output.splitlines()[::-1]
    for pattern, reason, remedy in _REFUSALS:
        for line in newest_first:
            if re.search(pattern, line):
                return Refusal(reason, remedy, line)
    return None
