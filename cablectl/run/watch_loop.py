"""The watch: sleeps until the kernel reports a change or a time has come, looks, and mends.

The kernel says at once what changes on this host. Pluto says nothing by itself, so it is asked:
often while a cable waits for its Child SAs, and seldom otherwise.
"""

import select
import signal
import socket
import time
from collections.abc import Callable, Set
from contextlib import ExitStack, closing

from cablectl.errors import BusyError, CablectlError
from cablectl.host import daemon, netlink
from cablectl.host.pluto_process import Watched
from cablectl.model.cable import Cable
from cablectl.plan import ipsec
from cablectl.plan.steps import Phase
from cablectl.run import service
from cablectl.run.negotiation import Timekeeper
from cablectl.run.pulse import Pulse
from cablectl.run.reconciler import PERIOD, Look, Reconciler, Repair
from cablectl.run.signals import postponed, wakeups
from cablectl.status.report import RepairState

TICK = 1.0  # seconds at most until the next turn of the loop
SETTLE = 0.1  # seconds from a change to the look, since changes come together
ASK, ASK_SELDOM = 0.5, 30.0  # seconds between two questions to pluto, at least and at most
PART = 1 / 120  # of the time for which a cable has had no Child SAs; then pluto is asked again
MOST = 64  # times of the patience at most, after many negotiations in vain
WHOLE = 300.0  # seconds between two looks without any change
FAILED = 2.0, 60.0  # seconds until the next look after one that failed: at first, and at most

KINDS = tuple(phase.label for phase in Phase)  # of repairs
Log = Callable[..., None]  # a line, and fields for the journal


class Watch:
    """Keeps cables until a signal ends it, or until a teardown has removed them all.

    `reload` returns the cables of the file as it is now.
    """

    def __init__(
        self, reconciler: Reconciler, reload: Callable[[], tuple[Cable, ...]], log: Log
    ) -> None:
        self._reconciler, self._reload, self._log = reconciler, reload, log
        self._look = Look()
        self._keeper = Timekeeper(())
        self._next_look = self._next_question = self._asked_at = 0.0  # of time.monotonic
        self._pause = ASK  # seconds from the last question to the next one
        self._down_since: dict[str, float] = {}  # by the cable's id
        self._delay = 0.0  # seconds after a look that failed
        self._told = ""  # the error that was told last, while it lasts
        self._contested = ""  # the reason that was told last, while it lasts
        self._pluto = Watched()
        self._restarted = False  # whether pluto was, and some cable waits since then
        self._repairs: dict[str, RepairState] = {}  # by the cable's id
        self._pulse = Pulse(log, self._repairs)
        self._words: tuple[bytes, ...] = ()  # in messages of the kernel about these cables

    def run(self, ready: Callable[[], None]) -> None:
        """Look, call `ready`, and go on until the end. The cables stay as they are then."""
        with ExitStack() as stack:
            stack.callback(self._reconciler.close)
            signals = stack.enter_context(wakeups())
            makers = (netlink.of_nftables, netlink.of_network, netlink.of_ipsec)
            changes = [stack.enter_context(closing(make())) for make in makers]
            settings = stack.enter_context(closing(netlink.of_settings()))
            stack.enter_context(closing(self._pluto))
            stack.enter_context(self._pulse)
            self._turn()
            ready()
            while not self._reconciler.is_alone:
                woken = self._sleep(signals, settings, self._pluto, *changes)
                if signals.fileno() in woken and self._is_ended(signals):
                    self._log("stopped; the cables stay as they are")
                    return
                # Every socket is read to its end.
                drained = [source.drain(*self._words) for source in changes]
                restarted = self._pluto.has_changed()
                self._restarted |= restarted
                if settings.drain(b"") or any(drained) or restarted:
                    self._next_look = min(self._next_look, time.monotonic() + SETTLE)
                self._turn(self._pulse.turn(), self._due())
            self._log("stopped; teardown has removed every cable")

    def _sleep(self, *sources: socket.socket | netlink.Changes | Watched) -> set[int]:
        poll = select.poll()
        for source in sources:  # without echoes: the kernel has stamped the answers
            if (file := source.fileno()) >= 0:
                poll.register(file, select.POLLIN)
        until = min(self._next_look, self._next_question, self._pulse.next) - time.monotonic()
        return {file for file, _ in poll.poll(1000 * max(0.0, min(until, TICK)))}

    def _is_ended(self, signals: socket.socket) -> bool:
        """Reload for SIGHUP; tell whether another signal came."""
        numbers = set(signals.recv(64))
        if numbers <= {signal.SIGHUP}:
            try:
                self._reconciler.take(self._reload())
            except CablectlError as error:
                self._log(f"the cables stay as they are: {error.message}")
            else:
                self._log("reloaded the file")
                self._next_look = 0.0
            return False
        return True

    def _due(self) -> frozenset[str]:
        """Ask pluto, if it is time; return the ids of the cables to be negotiated anew."""
        now = time.monotonic()
        if now < self._next_question:
            return frozenset()
        if not self._pluto.runs:
            self._next_question = now + ASK
            return frozenset()
        try:
            found = daemon.negotiations()
        except CablectlError:  # pluto starts, or is too busy
            self._next_question = now + ASK
            return frozenset()
        waiting = {cable.id for cable in self._look.cables if not cable.names <= found.up}
        if waiting != self._down_since.keys():
            self._next_look = now
        # On a busy host a look takes longer, but counts for one.
        looks = max(1, int(min(now - self._asked_at, self._pause) / ASK))
        waits_for = now - max(self._down_since.values(), default=now)
        self._pause = min(max(ASK, PART * waits_for), ASK_SELDOM) if waiting else ASK_SELDOM
        self._asked_at, self._next_question = now, now + self._pause
        self._restarted &= bool(waiting)
        # The peer takes the cable for up: it will not begin.
        due = self._keeper.due(waiting, found, hurry=self._restarted, looks=looks)
        for cable in due:
            self._keeper.asked(cable)
        return frozenset(cable.id for cable in due)

    def _turn(self, silent: Set[str] = frozenset(), down: Set[str] = frozenset()) -> None:
        """Look and mend, if it is time or for these cables, by id; tell what came of it."""
        service.tell("WATCHDOG=1")
        if time.monotonic() < self._next_look and not (silent or down):
            return
        try:
            with postponed(signal.SIGHUP):  # a reload waits for a repair
                look = self._reconciler.look(silent, down)
        except CablectlError as error:
            self._postpone(error)
        except (SystemExit, KeyboardInterrupt):  # the signal is in the socket, too
            self._next_look = 0.0
        else:
            self._take(look)

    def _take(self, look: Look) -> None:
        if {cable.id for cable in look.cables} != {cable.id for cable in self._look.cables}:
            self._keeper = Timekeeper(look.cables, most=MOST)
        self._look, self._words = look, netlink.words_of(look.cables)
        for cable in look.cables:
            self._repairs.setdefault(
                cable.id, RepairState(counts=dict.fromkeys(KINDS, 0), last=None)
            )
        for repair in look.repairs:
            self._count(repair)
            reasons = "; ".join(repair.reasons) or "it differed from the file"
            self._log(
                f"{repair.cable}: {reasons}; mended in {repair.seconds:.1f} s",
                cable=repair.cable,
                reason=reasons,
                repair=" ".join(repair.kinds),
            )
        if (contested := self._reconciler.contested) != self._contested:
            self._contested = contested
            why = f"only the guard is mended for a while: {contested}"
            self._log(why if contested else "everything is mended again")
        self._note_states()
        self._pulse.take(look.cables, look.up)
        if look.errors:
            self._postpone(look.errors[0])
            return
        self._told, self._delay = "", 0.0
        settled = ipsec.until_settled(look.cables, look.facts) or WHOLE
        self._next_look = time.monotonic() + (PERIOD if contested else settled)

    def _count(self, repair: Repair) -> None:
        counts = dict(self._repairs[repair.id].counts)
        for kind in repair.kinds:
            counts[kind] += 1
        self._repairs[repair.id] = RepairState(counts=counts, last=time.time())

    def _note_states(self) -> None:
        now, up = time.monotonic(), self._look.up
        ids = {cable.id for cable in self._look.cables}
        self._down_since = {id_: at for id_, at in self._down_since.items() if id_ in ids}
        for cable in self._look.cables:
            name = cable.remote.cable_name
            if cable.id not in up and cable.id not in self._down_since:
                self._down_since[cable.id] = now
                self._next_question = now
                self._log(f"{name} has no Child SA for each connection", cable=name, state="down")
            elif cable.id in up and (since := self._down_since.pop(cable.id, None)) is not None:
                self._log(f"{name} is up, after {now - since:.0f} s", cable=name, state="up")
        service.tell(f"STATUS={len(up)} of {len(self._look.cables)} cables are up")

    def _postpone(self, error: CablectlError) -> None:
        """Tell an error once, and look again later, or at the next change."""
        if isinstance(error, BusyError):
            self._next_look = time.monotonic() + TICK
            return
        if error.message != self._told:
            self._log("; ".join((error.message, *error.details)), error=error.message)
        self._told = error.message
        first, most = FAILED
        self._delay = min(2 * self._delay, most) or first
        self._next_look = time.monotonic() + self._delay
