"""Bound UDP ports and their processes, as `ss -H -u -l -n -p` prints them (ss(8))."""

import re
from ipaddress import ip_address

from msgspec import Struct

PLUTO = "pluto"  # the name of the daemon's process
_SOCKET = (
    r"\S+ +\d+ +\d+ +(?P<address>\S+):(?P<port>\d{1,5}) +\S+ *"
    r'(?:users:\(\("(?P<name>.*?)",pid=(?P<pid>\d{1,10}))?'
)


class Process(Struct, frozen=True):
    """A running program."""

    name: str
    pid: int

    def __str__(self) -> str:
        """Return name and PID for a message."""
        return f"{self.name} (PID {self.pid})"


class Socket(Struct, frozen=True):
    """A bound UDP socket; `holder` is None if the kernel holds it, or ss isn't run as root."""

    address: str
    port: int
    holder: Process | None = None

    def covers(self, address: str) -> bool:
        """Tell whether the socket keeps other programs from binding its port at that address."""
        bound = self.address.partition("%")[0].strip("[]")
        return bound in ("*", address) or ip_address(bound).is_unspecified


def parse(text: str) -> tuple[Socket, ...]:
    """Return the listed sockets, each with the first process that holds it; skip other lines."""
    matches = (re.match(_SOCKET, line) for line in text.splitlines())
    return tuple(
        Socket(
            match["address"],
            int(match["port"]),
            Process(match["name"], int(match["pid"])) if match["pid"] else None,
        )
        for match in matches
        if match
    )
