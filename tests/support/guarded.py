"""A host whose guard a watcher keeps: a file, before and after a change, and a kernel of tables."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Callable
from contextlib import ExitStack

from cablectl.config import native
from cablectl.host import netlink
from cablectl.linux import guard, nftables
from cablectl.linux.nftables import Installed
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from tests.support.documents import document

NETWORK = native.parse(document("tunnel v4 mesh"), "cable.yaml")  # a table for each peer
LOCAL = NETWORK.named("cluster1")
CABLES = NETWORK.cables(LOCAL)
# After a change: another subnet of cluster1, and a third peer.
PEERS = """\
  - {cluster: cluster4, hostname: h4, address: 172.18.0.4, subnets: [10.47.0.0/16]}
"""
CHANGED = native.parse(document("tunnel v4 mesh").replace("100.44", "100.45") + PEERS, "cable.yaml")
LATER = CHANGED.cables(CHANGED.named("cluster1"))
# cluster1 has another address, and cluster2 another subnet, so the guard is another one.
MOVED = native.parse(
    document("tunnel v4 mesh").replace("172.18.0.8", "172.18.0.18").replace("10.45", "10.55"),
    "cable.yaml",
)
AFTER_MOVE = MOVED.cables(MOVED.named("cluster1"))
NAMES = [guard.name(cable) for cable in CABLES]
UNLOCATED = guard.unlocated(NETWORK)
ANY_END = nftables.full_name(UNLOCATED.name)
FOR_ANY_END = Installed("any end", "any end")


def words(argv: Argv) -> str:
    return " ".join(argv[1:])


class Kernel:
    """The tables and addresses of a host; each change is reported on the sockets."""

    def __init__(self, stack: ExitStack) -> None:
        self.tables: dict[str, Installed] = {}
        self.addresses = set[str]()
        self.transactions: list[str] = []
        self.reads = 0
        self.fails = False
        self.before_load: Callable[[], object] = lambda: None
        self._loads = {words(UNLOCATED.load()): (ANY_END, FOR_ANY_END)}
        for cable in (*CABLES, *LATER, *AFTER_MOVE):
            self._loads[words(guard.load(cable))] = (guard.name(cable), guard.made(cable))
        self._senders: list[socket.socket] = []
        self.sources: list[netlink.Changes] = []
        for _ in range(2):
            sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            self._senders.append(stack.enter_context(sender))
            self.sources.append(netlink.Changes(receiver))

    def list(self, names: set[str]) -> dict[str, Installed]:
        self.reads += 1
        return {name: table for name, table in self.tables.items() if name in names}

    def nft(self, *argv: str, given: str) -> subprocess.CompletedProcess[str]:
        assert argv == ("nft", "-f", "-")
        if self.fails:
            return subprocess.CompletedProcess(argv, 1, "", "Error: no memory\n")
        self.before_load()
        self.transactions.append(given)
        for line in given.splitlines():
            if line in self._loads:
                name, table = self._loads[line]
                self.tables[name] = table
                self.report(name)
            else:
                self.delete(line.removeprefix("delete table "))
        return subprocess.CompletedProcess(argv, 0, "", "")

    def load(self, cable: Cable) -> None:
        """Load a table as connect does."""
        self.tables[guard.name(cable)] = guard.made(cable)
        self.report(guard.name(cable))

    def delete(self, name: str) -> None:
        del self.tables[name]
        self.report(name)

    def report(self, name: str) -> None:
        """Report a change of a table."""
        self._senders[0].send(f"...{name.split()[1]}\0...".encode())

    def rise(self, address: str) -> None:
        """Bring an address up."""
        self.addresses.add(address)
        self._senders[1].send(b"RTM_NEWADDR")
