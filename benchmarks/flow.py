"""Sends and receives TCP flows with the sockets of the standard library.

    python -m benchmarks.flow receive
    python -m benchmarks.flow send

The receiver prints `ready` when it listens on every address. After each flow it prints a line of
JSON: the bytes received, and the seconds from the first byte to the last. The sender reads lines
from standard input (source, destination, seconds) and sends a flow for each, until the input ends.
"""

import json
import os
import socket
import sys
import time

PORT = 5001
CHUNK = 1 << 16  # bytes; the sender's writes, and the kernel's send buffer
BUFFER = 1 << 20  # bytes; the receiver's largest read


def receive() -> None:
    """Receive one flow after another."""
    buffer = bytearray(BUFFER)
    with socket.create_server(("", PORT)) as server:
        print("ready", flush=True)
        while True:
            connection, _ = server.accept()
            with connection:
                total = connection.recv_into(buffer)
                began = ended = time.perf_counter()
                while count := connection.recv_into(buffer):
                    total += count
                    ended = time.perf_counter()
            print(json.dumps({"bytes": total, "seconds": ended - began}), flush=True)


def send() -> None:
    """Send as much as possible in the given seconds, for each line of standard input."""
    chunk = os.urandom(CHUNK)
    for line in sys.stdin:
        source, destination, seconds = line.split()
        with socket.create_connection(
            (destination, PORT), source_address=(source, 0)
        ) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, CHUNK)
            end = time.perf_counter() + float(seconds)
            while time.perf_counter() < end:
                connection.sendall(chunk)


def main() -> None:
    """Run the end that the command line names."""
    match sys.argv[1:]:
        case ["receive"]:
            receive()
        case ["send"]:
            send()
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
