"""Who may read and change a cable."""

import os

from cablectl.errors import HostNotReadyError


def refuse_others_than_root() -> None:
    """Raise HostNotReadyError for whoever isn't root."""
    if os.geteuid() != 0:
        raise HostNotReadyError("only root may see and change a cable", hint="the same with sudo")
