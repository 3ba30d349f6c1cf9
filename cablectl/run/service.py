"""What a unit of systemd tells its manager, sd_notify(3), and the journal, in fields."""

import os
import socket
import sys

JOURNAL = "/run/systemd/journal/socket"
_LOST = (ConnectionError, FileNotFoundError)


def tell(*assignments: str) -> None:
    """Tell systemd these assignments, such as READY=1, if systemd started this service."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path  # an abstract socket, unix(7)
    _send("\n".join(assignments).encode(), address)


def tell_ready() -> None:
    """Tell systemd that this service is ready."""
    tell("READY=1")


def watchdog() -> float | None:
    """Return within how many seconds systemd wants to hear of this service; None: never."""
    text, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID", "")
    mine = not pid or pid == str(os.getpid())
    return int(text) / 1e6 if mine and text.isdecimal() else None


def log(line: str, name: str, **fields: str) -> None:
    """Write a line to the journal with its fields, or to stderr where it isn't the journal.

    The fields' names are in lower case, and get the prefix CABLECTL_; see
    systemd.journal-fields(7). A field is cut to its first line: the protocol ends it there.
    """
    if not os.environ.get("JOURNAL_STREAM"):
        print(f"cablectl {name}: {line}", file=sys.stderr, flush=True)
        return
    entry = {"MESSAGE": line, "PRIORITY": "6", "SYSLOG_IDENTIFIER": f"cablectl-{name}"}
    entry |= {f"CABLECTL_{field.upper()}": value for field, value in fields.items()}
    text = "".join(f"{field}={_first_line(value)}\n" for field, value in entry.items())
    try:
        _send(text.encode(errors="replace"), JOURNAL)
    except _LOST:
        print(f"cablectl {name}: {line}", file=sys.stderr, flush=True)


def _first_line(text: str) -> str:
    return next(iter(text.splitlines()), "")


def _send(message: bytes, address: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.sendto(message, address)
