"""Ends IKE SAs on which a request waits for its answer, before their connections are deleted.

If a connection is deleted, or its SAs are terminated, while its CREATE_CHILD_SA request waits for
the answer, pluto 4.10 dies when the answer comes (docs/libreswan.md). It survives if the IKE SA is
deleted first, since pluto then ends the request.
"""

from collections.abc import Callable, Container
from contextlib import suppress

from cablectl.errors import CablectlError
from cablectl.host import probe
from cablectl.libreswan import pluto, pluto_commands, whack
from cablectl.model.argv import Argv


def end(names: Container[str], run: Callable[[Argv], object]) -> None:
    """End such IKE SAs of these connections; `run` runs a command.

    What fails is left: the SAs go with the connection.
    """
    with suppress(CablectlError):
        states = probe.output(*pluto_commands.SHOW_STATES)
        for serial in pluto.parse_unanswered(states, names):
            run(whack.delete_state(serial))
