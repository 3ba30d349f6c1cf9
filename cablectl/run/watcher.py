"""Keeps the guards of a file loaded, until a signal ends it or a teardown lets the guards go.

nft runs by `subprocess`, not by `sh`: this program runs for months, and should stay small.
"""

import os
import select
from collections.abc import Callable
from contextlib import ExitStack, closing
from typing import NamedTuple

from msgspec import Struct

from cablectl.errors import HostNotReadyError, TimeLimitError
from cablectl.host import devices, ipsec_state, netlink, probe
from cablectl.linux import guard, nftables
from cablectl.linux.nftables import Installed
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.network import Network
from cablectl.model.wishes import Endpoint
from cablectl.run import guard_hold
from cablectl.run.hold import Hold
from cablectl.run.signals import wakeups

PREFIX = "cablectl_"  # of the tables' names
TICK = 2000  # milliseconds between two looks whether the guards' files exist


class Table(Struct, frozen=True):
    """A table that is to be loaded; `cable` is None if the table is for any end."""

    name: str
    load: Argv
    remove: Argv
    cable: Cable | None = None

    @property
    def bundle(self) -> str:
        """The name of the table's file."""
        return self.name.removeprefix(f"{nftables.FAMILY} {PREFIX}")

    def is_intact(self, installed: Installed | None) -> bool:
        """Tell whether the kernel has the whole table."""
        if self.cable:
            return guard.is_intact(self.cable, installed)
        return installed is not None and installed.unchanged


class Kept(NamedTuple):
    """A table, and the hold on it."""

    table: Table
    hold: Hold


class Watcher:
    """Keeps the tables of a network loaded, as seen from `local`.

    Without `local`, this host is the endpoint whose address is up. Until an address is up, one
    table for any end is loaded. `changed` returns the network if its file was changed since the
    last call. `tell` is called with a line for each event.
    """

    def __init__(
        self,
        network: Network,
        local: Endpoint | None,
        changed: Callable[[], Network | None],
        tell: Callable[[str], None],
    ) -> None:
        self._network, self._local, self._changed, self._tell = network, local, changed, tell
        self._tables: dict[str, Table] = {}  # of this host's end in the file as it is now, by name
        self._kept: dict[str, Kept] = {}  # by the table's name
        self._later: Network | None = None  # a changed file, until it has this host's end
        self._let_go: set[str] = set()  # names of tables that a teardown is about to delete
        self._told = ""  # the error that was told last, while it lasts
        any_end = guard.unlocated(network)
        self._any_end = Table(
            nftables.full_name(any_end.name), any_end.load(), nftables.remove(any_end.name)
        )
        self._is_exact = False  # whether the exact tables are loaded, and no other one

    def run(self, ready: Callable[[], None]) -> None:
        """Load the tables, call `ready`, and keep the tables loaded; they stay loaded at the end.

        HostNotReadyError or TimeLimitError if the tables can't be loaded at the beginning, or if
        another watcher keeps one of them.
        """
        with ExitStack() as stack:
            stopped = stack.enter_context(wakeups())
            tables = stack.enter_context(closing(netlink.of_nftables()))
            addresses = stack.enter_context(closing(netlink.of_addresses()))
            stack.callback(self._remove_files)
            self._locate()
            self._settle()
            ready()
            poll = select.poll()
            for source in (stopped, tables, addresses):
                poll.register(source, select.POLLIN)
            while self._kept:
                woken = {file for file, _ in poll.poll(TICK)}
                if stopped.fileno() in woken:
                    self._tell(f"stopped; the guard stays loaded: {', '.join(self._kept)}")
                    return
                self._react(moved=addresses.drain(b""), changed=tables.drain(PREFIX.encode()))
            self._tell("stopped; teardown has removed the guard")

    def _react(self, *, moved: bool, changed: bool) -> None:
        """Do what a change calls for; tell an error once, and try again at the next tick."""
        self._release()
        again = bool(self._told)
        try:
            if moved or changed:
                self._read_again()
            if self._local is None and (moved or again):
                changed = self._locate() or changed
            if self._kept and (changed or again):
                self._settle()
        except (HostNotReadyError, TimeLimitError) as error:
            if error.message != self._told:
                self._tell("; ".join((error.message, *error.details)))
            self._told = error.message
        else:
            self._told = ""
        self._release()

    def _read_again(self) -> None:
        """Take the file as it is now, if it was changed, once it has this host's end."""
        network = self._changed() or self._later
        self._later = None
        if not network:
            return
        if self._local is None:
            self._network = network
        elif end := self._still_there(network, self._local):
            self._network, self._local = network, end
            self._tables = self._exact(end)
        else:
            self._later = network

    def _still_there(self, network: Network, local: Endpoint) -> Endpoint | None:
        """Return the end of a changed file that has the address and, of several, the cluster.

        If the cluster has another address now, it has to be one of this host.
        """
        ends = network.held_by(frozenset({str(local.address)}), local.hostname)
        if not ends:
            own = network.held_by(devices.addresses(), local.hostname)
            ends = tuple(end for end in own if end.cluster == local.cluster)
        return next((end for end in ends if end.cluster == local.cluster), next(iter(ends), None))

    def _locate(self) -> bool:
        """Find out which end this host is, and hold its tables; tell whether that is known now."""
        end = self._local or self._held_end()
        if end:
            self._tables = self._exact(end)
            for table in self._tables.values():
                self._hold(table)
            self._local = end
        elif not self._kept:
            self._hold(self._any_end)
            self._tell("this host has the address of no endpoint, or of several: guarding any end")
        return end is not None

    def _held_end(self) -> Endpoint | None:
        ends = self._network.held_by(devices.addresses(), os.uname().nodename)
        return ends[0] if len(ends) == 1 else None

    def _exact(self, end: Endpoint) -> dict[str, Table]:
        """Return the tables of an end by name; cables that share a device share their table."""
        cables = {guard.name(cable): cable for cable in self._network.cables(end) if cable.guarded}
        return {
            name: Table(name, guard.load(cable), guard.remove(cable), cable)
            for name, cable in cables.items()
        }

    def _hold(self, table: Table) -> None:
        kept = self._kept.get(table.name)
        self._kept[table.name] = Kept(table, kept.hold if kept else guard_hold.hold(table.bundle))

    def _settle(self) -> None:
        """Load what isn't intact, in one transaction; then the table for any end isn't needed."""
        any_end = self._any_end.name
        names = {*self._kept, *self._tables, *(() if self._is_exact else (any_end,))}
        installed = ipsec_state.guards_named(names)
        self._let_go &= installed.keys()
        for name, table in self._tables.items():
            # connect has loaded the guard of a changed file, or a guard that was let go.
            if table.is_intact(installed.get(name)) and name not in self._let_go:
                self._hold(table)
        broken = [
            kept
            for name, kept in self._kept.items()
            # Beside exact tables, a broken one for any end is only to be removed.
            if not (self._local and name == any_end)
            and not kept.table.is_intact(installed.get(name))
            and not kept.hold.lost
        ]
        if broken:
            _nft(*(kept.table.load for kept in broken))
            self._tell(f"loaded {', '.join(kept.table.name for kept in broken)}")
        for kept in broken:
            if kept.hold.lost:  # a teardown has removed the table in between
                _nft(kept.table.remove)
        if self._local and not self._is_exact:
            if any_end in installed:
                _nft(self._any_end.remove)
            if former := self._kept.pop(any_end, None):
                former.hold.remove_file()
                former.hold.close()
            self._is_exact = True

    def _release(self) -> None:
        """Let the tables go whose files are gone.

        The last file stays open until this process has ended, which teardown waits for.
        """
        for name in [name for name, kept in self._kept.items() if kept.hold.lost]:
            kept = self._kept.pop(name)
            self._let_go.add(name)
            if self._kept:
                kept.hold.close()

    def _remove_files(self) -> None:
        for kept in self._kept.values():
            kept.hold.remove_file()


def _nft(*argvs: Argv) -> None:
    """Run the commands of nft in one transaction; HostNotReadyError, with the output, on failure.

    nft joins its arguments by spaces, and reads the same text from standard input.
    """
    text = "".join(f"{' '.join(argv[1:])}\n" for argv in argvs)
    done = probe.run("nft", "-f", "-", given=text)
    if done.returncode:
        raise HostNotReadyError("nft can't change the guard", details=done.stderr.splitlines()[:3])
