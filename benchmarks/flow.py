"""Flows of TCP, their sender and their receiver in the standard library's own sockets.

    python -m benchmarks.flow receive
    python -m benchmarks.flow send

The receiver says `ready` as soon as it listens on every address, and after each flow, as a line of
JSON, how many bytes came and how many seconds passed from the first to the last. The sender makes a
flow for each line of standard input: source, destination, seconds. Both go on to the end of it.
"""

import json
import os
import socket
import sys
import time

PORT = 5001
PIECE = 1 << 16  # bytes that the sender hands to the kernel at once, and has the kernel keep
SPACE = 1 << 20  # bytes that the receiver takes at once, at most


def receive() -> None:
    """Take one flow after another."""
    space = bytearray(SPACE)
    with socket.create_server(("", PORT)) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                total = connection.recv_into(space)
                began = ended = time.perf_counter()
                while count := connection.recv_into(space):
                    total += count
                    ended = time.perf_counter()
            print(json.dumps({"bytes": total, "seconds": ended - began}), flush=True)


def send() -> None:
    """Send as much as goes in so many seconds, for each line of standard input."""
    piece = os.urandom(PIECE)
    for line in sys.stdin:
        source, destination, seconds = line.split()
        with socket.create_connection(
            (destination, PORT), source_address=(source, 0)
        ) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, PIECE)
            end = time.perf_counter() + float(seconds)
            while time.perf_counter() < end:
                connection.sendall(piece)


def main() -> None:
    """Do what the command line says."""
    match sys.argv[1:]:
        case ["receive"]:
            receive()
        case ["send"]:
            send()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
