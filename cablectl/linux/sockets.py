"""Who holds which UDP port, from what `ss -H -u -l -n -p` prints (ss(8))."""

import re
from ipaddress import ip_address

from msgspec import Struct

PLUTO = "pluto"  # what its process is called
_SOCKET = (
    r"\S+ +\d+ +\d+ +(?P<address>\S+):(?P<port>\d{1,5}) +\S+ *"
    r'(?:users:\(\("(?P<name>.*?)",pid=(?P<pid>\d{1,10}))?'
)


class Process(Struct, frozen=True):
    """A running program."""

    name: str
    pid: int

    def __str__(self) -> str:
        """Name it as a person looks for it."""
        return f"{self.name} (PID {self.pid})"


class Socket(Struct, frozen=True):
    """A UDP socket that is bound; no holder is known if it is the kernel's, or hidden from us."""

    address: str
    port: int
    holder: Process | None = None

    def covers(self, address: str) -> bool:
        """Tell whether nobody else can bind the port at that address."""
        bound = self.address.partition("%")[0].strip("[]")
        return bound in ("*", address) or ip_address(bound).is_unspecified


def parse(text: str) -> tuple[Socket, ...]:
    """Return the sockets that are listed, each with the first process that holds it."""
    found = (re.match(_SOCKET, line) for line in text.splitlines())
    return tuple(
        Socket(
            each["address"],
            int(each["port"]),
            Process(each["name"], int(each["pid"])) if each["pid"] else None,
        )
        for each in found
        if each
    )
