"""Why a negotiation failed, from what pluto prints and logs."""

import re

from msgspec import Struct


class Refusal(Struct, frozen=True):
    """Why a negotiation failed: in words, what to do, and pluto's own line."""

    reason: str
    remedy: str
    line: str


# The most telling first: what follows from it is logged as well.
_REFUSALS = (
    (
        r"AUTHENTICATION_FAILED|authentication failed",
        "authentication failed",
        "is the pre-shared key the same at both ends?",
    ),
    (
        r"(?:dictates|requires) T(?:ransport|unnel) Mode,? but",
        "one end is in transport mode, the other in tunnel mode",
        "is mode the same at both ends? A Libreswan 5 that is told by hand needs --transport",
    ),
    (
        r"cannot identify ourselves",
        "pluto has neither of the connection's addresses",
        "is it this host's address (`ip address`)? Then: ipsec whack --listen",
    ),
    (r"need --listen", "pluto doesn't listen", "ipsec whack --listen"),
    (
        r"Function not implemented|netlink response for Add SA",
        "the kernel took no SA",
        "does this kernel have ESP and the ciphers of ipsec.esp?",
    ),
    (
        r"TS_UNACCEPTABLE|compatible Traffic Selectors",
        "the peer has other traffic selectors",
        "are mode, overlay, its port and the subnets the same at both ends?",
    ),
    (
        r"no suitable connection found",
        "the peer asks for another connection than ours",
        "do both ends have the same file?",
    ),
    (
        r"NO_PROPOSAL_CHOSEN",
        "the peer accepts none of our proposals, or has no such connection",
        "has the peer run connect, with the same file? Does one end have Libreswan 4, the other 5"
        " or strongSwan? Then the file needs esn, maybe pfs_group (docs/libreswan.md)",
    ),
)


def parse_refusal(output: str) -> Refusal | None:
    """Return why a negotiation failed, by what pluto printed or logged; None if it doesn't say.

    The most telling reason, and the last line with it.
    """
    lines = output.splitlines()[::-1]
    for pattern, reason, remedy in _REFUSALS:
        for line in lines:
            if re.search(pattern, line):
                return Refusal(reason, remedy, line)
    return None
