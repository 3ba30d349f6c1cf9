"""A TCP session as BGP has it: each end sends a small message every few seconds."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .gateways import Gateway
from .rooms import Process, until

PORT = 179
# $1 is the address to listen on or to connect to; $2 the own address, or "" to listen; $3 the
# seconds between two messages. It ends with standard input, or with the session.
END = """
import json, select, socket, struct, sys, time
address, source, interval = sys.argv[1], sys.argv[2], float(sys.argv[3])
family = socket.AF_INET6 if ":" in address else socket.AF_INET
if source:
    peer = socket.create_connection((address, 179), 5, (source, 0))
else:
    with socket.create_server((address, 179), family=family) as server:
        peer, _ = server.accept()
KEEPALIVE = b"\\xff" * 16 + struct.pack("!HB", 19, 4)  # RFC 4271, section 4.4
sent = received = 0
begin = last = next_at = time.monotonic()
longest, ended = 0.0, ""
while not ended:
    readable, _, _ = select.select([peer, sys.stdin], [], [], max(0, next_at - time.monotonic()))
    now = time.monotonic()
    try:
        if now >= next_at:
            peer.sendall(KEEPALIVE)
            sent, next_at = sent + 1, next_at + interval
        if peer in readable:
            data = peer.recv(4096)
            received += len(data)
            longest, last = max(longest, now - last), now
            ended = "" if data else "by the peer"
        elif sys.stdin in readable:
            ended = "here"
    except OSError as error:
        ended = str(error)
    longest = max(longest, now - last)
if ended == "here":  # unread data would make the kernel reset the session instead of ending it
    peer.settimeout(10)
    peer.shutdown(socket.SHUT_WR)
    while data := peer.recv(4096):
        received += len(data)
(again,) = struct.unpack_from("I", peer.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 104), 100)
print(json.dumps({"sent": sent, "received": received // len(KEEPALIVE), "longest": longest,
    "retransmitted": again, "seconds": now - begin, "ended": ended}))
"""


@dataclass(frozen=True)
class End:
    """What an end of a session counted: messages, TCP segments sent again, and seconds.

    `longest` is the longest time between two messages of the other end.
    """

    sent: int
    received: int
    longest: float
    retransmitted: int
    seconds: float
    ended: str


class Session:
    """A session of two gateways, from `address` to `target`; `stop` returns both ends."""

    def __init__(
        self, client: Gateway, address: str, server: Gateway, target: str, interval: float
    ) -> None:
        self.interval = interval
        self._server = server.popen("python3", "-c", END, target, "", str(interval))
        listening = f"{target}]:{PORT}" if ":" in target else f"{target}:{PORT}"
        until(lambda: listening in server.run("ss", "-Hltn").stdout, "the server of a session")
        self._client = client.popen("python3", "-c", END, target, address, str(interval))

    def stop(self) -> tuple[End, End]:
        """End the session at the client; AssertionError if an end failed."""
        try:
            return _end(self._client), _end(self._server)
        finally:
            self.kill()

    def kill(self) -> None:
        """Kill both ends."""
        for process in (self._client, self._server):
            process.kill()
            process.wait()


def _end(process: Process) -> End:
    try:
        out, err = process.communicate("", timeout=15)
    except subprocess.TimeoutExpired:
        raise AssertionError("an end of a session doesn't end") from None
    assert process.returncode == 0, err
    return End(**json.loads(out))


@contextmanager
def kept(
    client: Gateway, address: str, server: Gateway, target: str, interval: float = 1.0
) -> Iterator[None]:
    """Keep a session during the block; at the end, no message may be missing or late."""
    session = Session(client, address, server, target, interval)
    try:
        yield
        ends = session.stop()
    finally:
        session.kill()
    assert_kept(ends, interval)


def assert_kept(ends: tuple[End, End], interval: float) -> None:
    """Both ends got all messages of the other one, and none waited for three intervals."""
    client, server = ends
    assert (client.ended, server.ended) == ("here", "by the peer"), ends
    for end, other in ((client, server), (server, client)):
        assert end.received >= other.sent - 1, ends  # the last one may be under way
        assert end.received > 1, ends
        assert end.longest < 3 * interval, ends
