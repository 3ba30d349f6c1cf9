"""What a unit of systemd of Type=notify tells its manager: sd_notify(3)."""

import os
import socket


def tell_ready() -> None:
    """Tell systemd that this service is ready, if systemd started it."""
    path = os.environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = f"\0{path[1:]}" if path.startswith("@") else path  # an abstract socket, unix(7)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as manager:
        manager.sendto(b"READY=1", address)
