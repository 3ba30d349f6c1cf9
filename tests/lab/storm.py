"""A mesh whose gateways all start, or start again, in the same second; what came of each pair.

`make storm` runs it for many gateways and rounds, and prints the table of docs/storm.md.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from itertools import combinations, cycle, islice, permutations

from cablectl.libreswan.dialects import Version

from .cable import FILE, PSK, PSK_FILE
from .gateways import PLUTO_LOG, Gateway, Lab
from .mesh import address, document, number, vtep
from .rooms import PROGRAM, Process, until

RELEASES = {"4.10": ("4.10",), "5.2": ("5.2",), "mixed": ("4.10", "5.2")}
AGREED = "esn: yes, pfs_group: modp2048, esp: [aes_gcm-null]"
DOWN = 180  # seconds for which the switch is off
OUTPUT = "/tmp/connect.log"
SETTLE = 2.0  # seconds in which every pair has to answer, once connect has said 0
HOLD = 30.0  # seconds for which it has to stay so under a watch
# Seconds after which a pair that doesn't answer is dead for good. pluto repeats the deletion of a
# Child SA that the peer doesn't know for a minute.
PATIENCE = 100.0
RECENT = 1.5  # seconds; a pair is alive if something came from each end within them
# From the first moment each gateway sends to each other one, whether there is a cable or not. A
# line of standard input asks for the seconds since the last packet of each peer.
TRAFFIC = """
import json, select, socket, sys, time
own, peers = sys.argv[1], sys.argv[2:]
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
udp.bind(("", 7007))
heard, at = {}, time.monotonic()
while True:
    readable, _, _ = select.select([udp, sys.stdin], [], [], max(0, at - time.monotonic()))
    now = time.monotonic()
    if now >= at:
        at = now + 0.5
        for peer in peers:
            try:
                udp.sendto(own.encode(), (peer, 7007))
            except OSError:
                pass
    if udp in readable:
        heard[udp.recv(100).decode()] = now
    if sys.stdin in readable:
        if not sys.stdin.readline():
            break
        print(json.dumps({peer: now - when for peer, when in heard.items()}), flush=True)
"""
# pluto is started as the host's unit does it.
START = f"""
rm -f /run/pluto/pluto.pid
ipsec pluto --config /etc/ipsec.conf --logfile {PLUTO_LOG}
until ipsec whack --status 2>/dev/null | grep -q ' eth0 '; do sleep 0.1; done
"""
CONNECT = f'exec {PROGRAM} connect {FILE} --timeout "$1" >{OUTPUT} 2>&1'
WATCH = f"exec {PROGRAM} watch {FILE} >{OUTPUT} 2>&1"


@dataclass
class Outcome:
    """What came of one start: for all pairs together, and the exit code of each connect."""

    kind: str
    pairs: int
    seconds: float  # until the last connect has ended, or until the watches have mended all
    codes: dict[str, int]
    lost_at_first: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    too_many_at_first: int = 0  # Child SAs
    too_many: int = 0  # in the end
    doubled: list[str] = field(default_factory=list)  # gateways and their connections with them
    missing: int = 0  # connections without one
    unlike: int = 0  # SAs of one end alone
    alone: dict[str, int] = field(default_factory=dict)  # how many of them a gateway has
    dead: list[str] = field(default_factory=list)  # gateways whose pluto has died
    output: dict[str, str] = field(default_factory=dict)

    @property
    def is_clean(self) -> bool:
        """Whether all is as it should be."""
        bad = (self.lost_at_first, self.lost, self.too_many, self.missing, self.unlike, self.dead)
        return not any(bad) and set(self.codes.values()) <= {0}

    def row(self) -> str:
        """Return the outcome in a line."""
        codes, first = Counter(self.codes.values()), len(self.lost_at_first)
        alone = self.alone if self.unlike else ""
        return (
            f"{self.kind:8} {self.pairs:4} pairs {self.seconds:6.1f} s  lost {first} then"
            f" {len(self.lost)}  too many {self.too_many_at_first} then {self.too_many}"
            f"  missing {self.missing}  unlike {self.unlike} {alone}"
            f"  codes {dict(codes)}  dead {self.dead} {self.lost[:4]}"
        )


class Storm:
    """Gateways c1 to cN of one release, or of two in turns."""

    def __init__(self, lab: Lab, count: int, release: str, stack: ExitStack, limit: int) -> None:
        self.names = [f"c{place}" for place in range(1, count + 1)]
        self.limit = limit
        self.lab, self._stack = lab, stack
        self.is_watched = False
        self.restarted: list[str] = []  # gateways whose pluto had died under a watch
        of_each = islice(cycle(RELEASES[release]), count)
        for name, each in zip(self.names, of_each, strict=True):
            six = f"2001:db8::{number(name):x}/64"
            lab.gateway(name, f"{address(name)}/16", six, each)
        # With their defaults, 4.10 and 5.2 agree on no Child SA (docs/libreswan.md).
        text = document(self.names, AGREED if release == "mixed" else "")
        self.traffic: dict[str, Process] = {}
        for gateway in lab.gateways:
            gateway.write(FILE, text)
            gateway.write(PSK_FILE, f"{PSK}\n")
            gateway.run("ipsec", "initnss", check=False)
            peers = [vtep(name) for name in self.names if name != gateway.name]
            process = gateway.popen("python3", "-c", TRAFFIC, gateway.name, *peers)
            self.traffic[gateway.name] = process
            stack.enter_context(process)
            stack.callback(process.kill)

    def start(self) -> Outcome:
        """Start all plutos and connects in the same second."""
        return self._run("start", START)

    def watch(self) -> None:
        """Have a watch mend at each gateway from now on, in the place of connect."""
        for gateway in self.lab.gateways:
            process = self._stack.enter_context(gateway.popen("sh", "-c", WATCH))
            self._stack.callback(process.kill)
        self.is_watched = True
        begun = ("sh", "-c", "test -e /run/cablectl/*.health")
        until(
            lambda: all(
                each.run(*begun, check=False).returncode == 0 for each in self.lab.gateways
            ),
            "watches that have begun",
            self.limit,
        )

    def kill(self) -> Outcome:
        """Kill all plutos, and start again."""
        for gateway in self.lab.gateways:
            gateway.run("pkill", "-KILL", "-x", "pluto", check=False)
        for gateway in self.lab.gateways:
            gateway.await_end()
            _clean_up(gateway)
        return self._run("kill", START)

    def flush(self) -> Outcome:
        """Flush the SAs of all gateways, wait a while, and connect."""
        for gateway in self.lab.gateways:
            gateway.run("ip", "xfrm", "state", "flush")
        time.sleep(5)
        return self._run("flush")

    def cut(self) -> Outcome:
        """Switch the switch off for DOWN seconds, and connect."""
        self.lab.switch.ip("link set br0 down")
        time.sleep(DOWN)
        self.lab.switch.ip("link set br0 up")
        return self._run("cut")

    def _run(self, kind: str, script: str = "") -> Outcome:
        begin = time.monotonic()
        # A pipe that nobody reads yet would hold a connect up: its output is in a file.
        script += "" if self.is_watched else CONNECT
        running = {
            gateway.name: gateway.popen("sh", "-c", script, "sh", str(self.limit))
            for gateway in self.lab.gateways
        }
        for process in running.values():
            process.communicate(timeout=3600)
        if self.is_watched:
            self._await_mended(begin + self.limit)
        seconds = time.monotonic() - begin
        time.sleep(HOLD if self.is_watched else SETTLE)
        output = {gateway.name: gateway.read(OUTPUT) for gateway in self.lab.gateways}
        codes = {name: process.returncode for name, process in running.items()}
        pairs = len(list(combinations(self.names, 2)))
        outcome = Outcome(kind, pairs, seconds, codes, output=output)
        outcome.lost_at_first = self.silent()
        deadline = time.monotonic() + PATIENCE
        while (lost := self.silent()) and time.monotonic() < deadline:
            time.sleep(1)
        outcome.lost = lost
        self._count(outcome)
        outcome.too_many_at_first = outcome.too_many
        while (outcome.too_many or outcome.unlike) and time.monotonic() < deadline:
            time.sleep(5)
            self._count(outcome)
        return outcome

    def _await_mended(self, deadline: float) -> None:
        """Wait until all pairs answer, by one Child SA for each connection, at the latest then."""
        now = Outcome("", 0, 0, {})
        while time.monotonic() < deadline:
            self._restart_dead()
            if not self.silent():
                self._count(now)
                if not (now.too_many or now.missing or now.unlike):
                    return
            time.sleep(2)

    def _restart_dead(self) -> None:
        """Start each pluto that has died, as its unit does (Restart=on-failure)."""
        for gateway in self.lab.gateways:
            if gateway.run("pidof", "pluto", check=False).returncode:
                self.restarted.append(gateway.name)
                _clean_up(gateway)
                gateway.run("sh", "-c", START)

    def silent(self) -> list[str]:
        """Return the pairs of which one end has heard nothing of the other one lately."""
        heard = {name: self._heard(name) for name in self.names}
        return [
            f"{here}-{there}"
            for here, there in permutations(self.names, 2)
            if heard[there].get(here, 1e9) > RECENT
        ]

    def _heard(self, name: str) -> dict[str, float]:
        process = self.traffic[name]
        assert process.stdin
        assert process.stdout
        print(file=process.stdin, flush=True)
        return dict(json.loads(process.stdout.readline()))

    def _count(self, outcome: Outcome) -> None:
        """Compare the SAs of all ends, and pluto's Child SAs with the connections."""
        spis: dict[str, set[tuple[str, str, str]]] = {}
        outcome.too_many = outcome.missing = 0
        outcome.doubled, outcome.dead = [], []
        for gateway in self.lab.gateways:
            text = gateway.run("ip", "xfrm", "state", "list", "nokeys").stdout
            found = re.findall(r"src (\S+) dst (\S+)\n\tproto esp spi (\S+)(?:.*\n\t)+?aead", text)
            spis[gateway.name] = {sa for sa in found if sa[2] != "0x00000000"}
            listed = gateway.whack("--trafficstatus", check=False)
            if "Pluto is not running" in listed or "pluto" in listed.lower().split("\n")[0][:60]:
                outcome.dead.append(gateway.name)
            children = Counter(re.findall(r'#\d+: "([^"]+)"', listed))
            outcome.too_many += sum(children.values()) - len(children)
            outcome.doubled += [f"{gateway.name} {name}" for name in children if children[name] > 1]
            outcome.missing += 2 * (len(self.names) - 1) - len(children)
        every = Counter(sa for of_one in spis.values() for sa in of_one)
        outcome.unlike = sum(times == 1 for times in every.values())
        for name, of_one in spis.items():
            outcome.alone[name] = sum(every[sa] == 1 for sa in of_one)


def _clean_up(gateway: Gateway) -> None:
    """Flush what a pluto that has died left in the kernel, if Debian's unit does that."""
    if gateway.release() < Version(5, 0):
        gateway.run("ip", "xfrm", "policy", "flush")
        gateway.run("ip", "xfrm", "state", "flush")


@contextmanager
def storm(count: int, release: str, limit: int = 0) -> Iterator[Storm]:
    """Make the gateways; `limit` is connect's, in seconds."""
    with ExitStack() as stack, Lab() as lab:
        yield Storm(lab, count, release, stack, limit or 60 + 2 * count * count)


def main(argv: Sequence[str] = ()) -> None:
    """Run rounds, print a line for each start."""
    parser = argparse.ArgumentParser()
    parser.add_argument("count", type=int)
    parser.add_argument("release", choices=RELEASES)
    parser.add_argument("rounds", type=int)
    parser.add_argument("kinds", nargs="*", default=["start", "kill", "flush", "cut"])
    parser.add_argument("--watch", action="store_true", help="mend by watches instead of connect")
    parser.add_argument("--keep", action="store_true", help="stop at the first that isn't clean")
    given = parser.parse_args(argv or None)
    for place in range(given.rounds):
        with storm(given.count, given.release) as made:
            for kind in ("start", *(each for each in given.kinds if each != "start")):
                if given.watch and kind != "start" and not made.is_watched:
                    made.watch()
                run: Callable[[], Outcome] = getattr(made, kind)
                outcome = run()
                again = f" restarted {made.restarted}" if made.restarted else ""
                print(f"{given.release:5} round {place + 1}: {outcome.row()}{again}", flush=True)
                if given.keep and not outcome.is_clean:
                    report(made, outcome)
                    sys.exit(1)


def report(made: Storm, outcome: Outcome) -> None:
    """Print what is known of the ends that went wrong."""
    for name, text in outcome.output.items():
        print(f"--- {name} exits with {outcome.codes[name]}\n{text[-3000:]}")
    for gateway_and_name in outcome.doubled[:4]:
        here, connection = gateway_and_name.split()
        there = connection.split("-")[2]
        for name, other in ((here, there), (there, here)):
            gateway = next(each for each in made.lab.gateways if each.name == name)
            marks = re.compile(rf"-{other}-|\b{re.escape(address(other))}\b")
            lines = gateway.read(PLUTO_LOG).splitlines()
            print(f"--- {name}, of {other}", *filter(marks.search, lines), sep="\n")
    for pair in outcome.lost[:2]:
        for name in pair.split("-"):
            gateway = next(each for each in made.lab.gateways if each.name == name)
            states = gateway.whack("--showstates", check=False)
            print(f"--- {name}\n{states}{gateway.read(PLUTO_LOG)[-6000:]}")


if __name__ == "__main__":
    main(sys.argv[1:])
