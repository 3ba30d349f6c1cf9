"""Ends IKE SAs on which a request waits for its answer, before their connections are deleted.

If a connection is deleted, or its SAs are terminated, while its CREATE_CHILD_SA request waits for
the answer, pluto 4.10 dies when the answer comes (docs/libreswan.md). It survives if the IKE SA is
deleted first, since pluto then ends the request.
"""

from collections.abc import Container
from contextlib import suppress

from cablectl.errors import CablectlError
from cablectl.host import daemon
from cablectl.libreswan import pluto, whack
from cablectl.run.command import run

# Seconds: pluto ends the request at once. Whack 4.10 then goes on to wait for the peer's answer to
# the deletion, which a peer without this IKE SA doesn't give.
LIMIT = 1.0


def end(names: Container[str], phase: str) -> None:
    """End such IKE SAs of these connections.

    What fails is left: the SAs go with the connection.
    """
    with suppress(CablectlError):
        for serial in pluto.parse_unanswered(daemon.show_states(), names):
            with suppress(CablectlError):
                run(daemon.directly(whack.delete_state(serial)), LIMIT, phase)
