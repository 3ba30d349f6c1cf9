"""One flow of TCP, its sender and its receiver in the standard library's own sockets.

    python -m benchmarks.flow receive ADDRESS
    python -m benchmarks.flow send SOURCE ADDRESS SECONDS

The receiver says `ready` as soon as it listens, and at the end of the flow, as a line of JSON, how
many bytes came and how many seconds passed from the first to the last.
"""

import ipaddress
import json
import os
import socket
import sys
import time

PORT = 5001
PIECE = 1 << 16  # bytes that the sender hands to the kernel at once, random once


def receive(address: str) -> None:
    """Take one flow, all of it."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    with socket.create_server((address, PORT), family=family) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
    space = bytearray(1 << 20)
    with connection:
        total = connection.recv_into(space)
        began = ended = time.perf_counter()
        first = total
        while count := connection.recv_into(space):
            total += count
            ended = time.perf_counter()
    print(json.dumps({"bytes": total, "seconds": ended - began, "first": first}))


def send(source: str, address: str, seconds: float) -> None:
    """Send as much as goes in `seconds`."""
    piece = os.urandom(PIECE)
    with socket.create_connection((address, PORT), source_address=(source, 0)) as connection:
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            connection.sendall(piece)


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["receive", address]:
            receive(address)
        case ["send", source, address, seconds]:
            send(source, address, float(seconds))
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
