"""The check for root, who alone can read and change a cable."""

import os

from cablectl.errors import HostNotReadyError


def refuse_others_than_root() -> None:
    """Raise HostNotReadyError if the user isn't root."""
    if os.geteuid() != 0:
        raise HostNotReadyError(
            "only root can read and change a cable", hint="run the same command with sudo"
        )
