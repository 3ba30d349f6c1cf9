"""A numbered stream of UDP in both directions: which packets arrive, and which were lost."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from .gateways import Gateway
from .rooms import Process

RATE = 1000  # packets a second
# The arguments: own address, peer's address, packets a second. A line begins it, the next one ends
# the sending, the last one the receiving; then it prints the numbers.
END = """
import json, select, socket, struct, sys, time
own, peer, rate = sys.argv[1], sys.argv[2], int(sys.argv[3])
udp = socket.socket(socket.AF_INET6 if ":" in own else socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, 33, 16 << 20)  # SO_RCVBUFFORCE
udp.bind((own, 7007))
udp.setblocking(False)
filler = bytes.fromhex("5ca1ab1e") * 16
got, refused, sent = set(), [], 0
def receive():
    while True:
        try:
            got.add(struct.unpack_from("!I", udp.recv(2048))[0])
        except OSError:
            return
def told():
    return bool(select.select([sys.stdin], [], [], 0)[0]) and bool(sys.stdin.readline())
print("ready", flush=True)
sys.stdin.readline()
begin = time.monotonic()
while not told():
    due = (time.monotonic() - begin) * rate
    while sent < due:
        try:
            udp.sendto(struct.pack("!I", sent) + filler, (peer, 7007))
        except OSError as error:
            refused.append([sent, str(error)])
        sent += 1
    receive()
    time.sleep(0.004)
while not told():
    receive()
    time.sleep(0.004)
receive()
print(json.dumps({"sent": sent, "got": sorted(got), "refused": refused[:9]}))
"""


@dataclass(frozen=True)
class Counted:
    """How many packets were sent in a direction, and how many of them were lost."""

    sent: int
    lost: int
    which: tuple[int, ...]  # the first ones that were lost
    refused: tuple[tuple[int, str], ...]  # those that the sender's kernel refused
    in_a_row: int  # how many were lost one after the other, at most


class Stream:
    """A stream between two gateways; `counted` has both directions after the block."""

    def __init__(self) -> None:
        self.counted: list[Counted] = []


@contextmanager
def flowing(
    one: Gateway, address: str, other: Gateway, target: str, rate: int = RATE
) -> Iterator[Stream]:
    """Send between two addresses during the block; both ends begin before it."""
    ends = ((one, address, target), (other, target, address))
    running = [
        gateway.popen("python3", "-c", END, own, peer, str(rate)) for gateway, own, peer in ends
    ]
    stream = Stream()
    try:
        for process in running:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in running:
            _tell(process)
        yield stream
        for process in running:
            _tell(process)
        time.sleep(1)  # for packets that are under way
        for process in running:
            _tell(process)
        results = [json.loads(_output(process)) for process in running]
    finally:
        for process in running:
            process.kill()
            process.communicate()
    for here, there in (results, results[::-1]):
        lost = sorted({*range(here["sent"])} - {*there["got"]})
        refused = tuple((number, text) for number, text in here["refused"])
        stream.counted.append(
            Counted(here["sent"], len(lost), tuple(lost[:9]), refused, _in_a_row(lost))
        )


def _in_a_row(numbers: list[int]) -> int:
    """Return the length of the longest run of successive numbers."""
    runs = Counter(number - place for place, number in enumerate(numbers))
    return max(runs.values(), default=0)


def _tell(process: Process) -> None:
    assert process.stdin
    process.stdin.write("\n")
    process.stdin.flush()


def _output(process: Process) -> str:
    try:
        out, err = process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        raise AssertionError("a stream doesn't end") from None
    assert process.returncode == 0, err
    return out
