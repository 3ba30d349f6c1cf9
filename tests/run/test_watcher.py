"""The watcher of the guard: when it loads which table, and when it lets a table go."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from queue import Queue

import pytest

from cablectl.config import native
from cablectl.errors import HostNotReadyError
from cablectl.host import devices, ipsec_state, netlink, probe
from cablectl.linux import guard, nftables
from cablectl.linux.nftables import Installed
from cablectl.model.cable import Cable
from cablectl.model.network import Network
from cablectl.run import journal, watcher
from cablectl.run.guard_hold import hold, watched
from tests.support.documents import document
from tests.support.guarded import (
    AFTER_MOVE,
    ANY_END,
    CABLES,
    CHANGED,
    FOR_ANY_END,
    LATER,
    LOCAL,
    MOVED,
    NAMES,
    NETWORK,
    UNLOCATED,
    Kernel,
    words,
)


class Watched:
    """A watcher that runs, and the lines that it told."""

    def __init__(self, kernel: Kernel) -> None:
        self.kernel, self.lines = kernel, Queue[str]()
        self.file: Network | None = None  # what a changed file describes

    def run(self, play: Callable[[], object], *, located: bool = True) -> None:
        """Run the watcher until it ends, and meanwhile, once it is ready, what a test plays."""
        local = LOCAL if located else None
        one = watcher.Watcher(NETWORK, local, self._changed, self.lines.put)
        with ThreadPoolExecutor(1) as thread:
            playing: list[object] = []

            def ready() -> None:
                self.lines.put("ready")
                playing.append(thread.submit(self._play, play))

            one.run(ready)
            for played in playing:
                played.result()  # type: ignore[attr-defined]

    def _changed(self) -> Network | None:
        network, self.file = self.file, None
        return network

    def _play(self, play: Callable[[], object]) -> None:
        try:
            play()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        os.kill(os.getpid(), signal.SIGTERM)

    def told(self, text: str) -> str:
        """Wait for the next line that contains a text."""
        while True:
            line = self.lines.get(timeout=20)
            if text in line:
                return line


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    with ExitStack() as stack:
        kernel = Kernel(stack)
        monkeypatch.setattr(netlink, "of_nftables", lambda: kernel.sources[0])
        monkeypatch.setattr(netlink, "of_addresses", lambda: kernel.sources[1])
        monkeypatch.setattr(ipsec_state, "guards_named", kernel.list)
        monkeypatch.setattr(devices, "addresses", lambda: frozenset(kernel.addresses))
        monkeypatch.setattr(probe, "run", kernel.nft)
        monkeypatch.setattr(watcher, "TICK", 10)
        yield kernel


@pytest.fixture
def one(kernel: Kernel) -> Watched:
    return Watched(kernel)


def files() -> set[str]:
    folder = journal.DIRECTORY
    return {file.name for file in folder.iterdir()} if folder.exists() else set()


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def file_of(cable: Cable) -> str:
    return f"{cable.bundle}.guard"


def test_all_tables_are_loaded_at_once_and_stay_after_a_signal(
    one: Watched, kernel: Kernel
) -> None:
    def play() -> None:
        assert kernel.tables.keys() == {*NAMES}
        assert files() == {*map(file_of, CABLES)}
        assert len(kernel.transactions) == 1
        one.stop()

    one.run(play)
    assert one.told("loaded ") == f"loaded {', '.join(NAMES)}"
    one.told("ready")
    assert one.told("stopped") == f"stopped; the guard stays loaded: {', '.join(NAMES)}"
    assert kernel.tables.keys() == {*NAMES}
    assert files() == set()


def test_what_is_loaded_already_isnt_loaded_again(one: Watched, kernel: Kernel) -> None:
    kernel.tables = {guard.name(cable): guard.made(cable) for cable in CABLES}
    one.run(one.stop)
    assert kernel.transactions == []


@pytest.mark.parametrize("how", ["deleted", "changed"])
def test_only_the_broken_table_is_loaded_again(one: Watched, kernel: Kernel, how: str) -> None:
    def play() -> None:
        one.told("ready")
        if how == "deleted":
            kernel.delete(NAMES[0])
        else:
            kernel.tables[NAMES[0]] = Installed("another")
            kernel.report(NAMES[0])
        assert one.told("loaded") == f"loaded {NAMES[0]}"
        one.stop()

    one.run(play)
    assert kernel.transactions[1:] == [f"{words(guard.load(CABLES[0]))}\n"]


def test_the_guard_of_a_changed_file_is_kept_once_connect_has_loaded_it(
    one: Watched, kernel: Kernel
) -> None:
    first, second, new = LATER

    def play() -> None:
        one.told("ready")
        one.file = CHANGED
        kernel.delete(NAMES[0])  # before connect: loaded as it was
        one.told("loaded")
        assert kernel.tables[NAMES[0]] == guard.made(CABLES[0])
        for cable in (first, new):  # connect
            kernel.load(cable)
        until(lambda: files() == {*map(file_of, LATER)})
        kernel.delete(guard.name(new))
        assert one.told("loaded") == f"loaded {guard.name(new)}"
        kernel.delete(guard.name(first))
        one.told("loaded")
        one.stop()

    one.run(play)
    assert kernel.tables == {
        guard.name(first): guard.made(first),
        guard.name(second): guard.made(CABLES[1]),
        guard.name(new): guard.made(new),
    }


@pytest.mark.parametrize("early", [True, False], ids=["file first", "address first"])
def test_a_host_that_gets_another_address(one: Watched, kernel: Kernel, early: bool) -> None:
    """Before it has the address, the cluster may have another gateway now: the guard stays."""
    first, _ = AFTER_MOVE

    def play() -> None:
        one.told("ready")
        if not early:
            kernel.rise("172.18.0.18")
        one.file = MOVED
        kernel.delete(NAMES[0])
        one.told("loaded")
        if early:
            assert kernel.tables[NAMES[0]] == guard.made(CABLES[0])
            kernel.rise("172.18.0.18")
        reads = kernel.reads
        kernel.load(first)  # connect
        until(lambda: kernel.reads > reads)
        kernel.delete(NAMES[0])
        one.told("loaded")
        one.stop()

    one.run(play)
    assert kernel.tables[NAMES[0]] == guard.made(first)


def test_a_table_that_was_let_go_is_kept_again_after_the_next_connect(
    one: Watched, kernel: Kernel
) -> None:
    def play() -> None:
        one.told("ready")
        (journal.DIRECTORY / file_of(CABLES[0])).unlink()
        kernel.delete(NAMES[1])  # a change between the two steps of teardown
        one.told("loaded")
        assert files() == {file_of(CABLES[1])}
        kernel.delete(NAMES[0])
        kernel.delete(NAMES[1])
        one.told("loaded")
        kernel.load(CABLES[0])  # connect
        until(lambda: files() == {*map(file_of, CABLES)})
        kernel.delete(NAMES[0])
        assert one.told("loaded") == f"loaded {NAMES[0]}"
        one.stop()

    one.run(play)


def test_a_change_of_another_table_costs_no_listing(one: Watched, kernel: Kernel) -> None:
    def play() -> None:
        one.told("ready")
        kernel.delete(NAMES[0])
        one.told("loaded")
        before = kernel.reads
        for _ in range(20):
            kernel.report("inet filter")
            kernel.report("inet firewalld")
        kernel.delete(NAMES[1])  # the messages before it have been read then
        one.told("loaded")
        assert kernel.reads <= before + 5  # its own loads are changes, too
        one.stop()

    one.run(play)


def test_a_table_whose_file_was_removed_isnt_loaded_again(one: Watched, kernel: Kernel) -> None:
    """teardown of one peer, then of the other one: the watcher ends with the last table."""

    def play() -> None:
        one.told("ready")
        for cable in CABLES:
            with watched([cable.bundle]) as held:
                (journal.DIRECTORY / file_of(cable)).unlink()
                kernel.delete(guard.name(cable))
                if cable is not CABLES[-1]:  # the last one ends with this process
                    held.await_end()

    one.run(play)
    assert one.told("stopped") == "stopped; teardown has removed the guard"
    assert kernel.tables == {}
    assert files() == set()
    assert len(kernel.transactions) == 1


def test_a_removed_file_is_noticed_without_a_change_of_tables(one: Watched, kernel: Kernel) -> None:
    def play() -> None:
        for cable in CABLES:
            (journal.DIRECTORY / file_of(cable)).unlink()

    one.run(play)
    one.told("teardown has removed the guard")


def test_a_teardown_during_a_load_leaves_no_table(one: Watched, kernel: Kernel) -> None:
    def tear_down() -> None:
        (journal.DIRECTORY / file_of(CABLES[0])).unlink(missing_ok=True)

    def play() -> None:
        one.told("ready")
        kernel.before_load = tear_down
        kernel.delete(NAMES[0])
        one.told("loaded")
        kernel.before_load = lambda: None
        kernel.delete(NAMES[1])
        one.told("loaded")
        one.stop()

    one.run(play)
    assert kernel.tables.keys() == {NAMES[1]}


def test_until_an_address_is_up_the_table_for_any_end_is_loaded(
    one: Watched, kernel: Kernel
) -> None:
    def play() -> None:
        one.told("ready")
        assert kernel.tables.keys() == {ANY_END}
        assert files() == {f"{ANY_END.partition('cablectl_')[2]}.guard"}
        kernel.rise("192.0.2.1")  # of no endpoint
        kernel.delete(ANY_END)
        assert one.told("loaded") == f"loaded {ANY_END}"
        kernel.rise(str(LOCAL.address))
        assert one.told("loaded") == f"loaded {', '.join(NAMES)}"
        kernel.delete(NAMES[0])
        one.told("loaded")
        assert files() == {*map(file_of, CABLES)}
        one.stop()

    one.run(play, located=False)
    *_, exact, removal, _ = kernel.transactions
    assert exact == "".join(f"{words(guard.load(cable))}\n" for cable in CABLES)
    assert removal == f"{words(nftables.remove(UNLOCATED.name))}\n"
    assert kernel.tables.keys() == {*NAMES}


def test_with_the_addresses_of_several_endpoints_any_end_is_guarded(
    one: Watched, kernel: Kernel
) -> None:
    kernel.addresses = {str(end.address) for end in NETWORK.endpoints[:2]}
    one.run(one.stop, located=False)
    assert kernel.tables.keys() == {ANY_END}


def test_the_table_for_any_end_of_an_earlier_watcher_is_removed(
    one: Watched, kernel: Kernel
) -> None:
    kernel.tables = {ANY_END: FOR_ANY_END}
    one.run(one.stop)
    assert kernel.tables.keys() == {*NAMES}


def test_a_load_that_fails_is_told_once_and_tried_again(one: Watched, kernel: Kernel) -> None:
    def play() -> None:
        one.told("ready")
        kernel.fails = True
        kernel.delete(NAMES[0])
        assert one.told("nft") == "nft can't change the guard; Error: no memory"
        reads = kernel.reads
        until(lambda: kernel.reads > reads + 3)
        kernel.fails = False
        assert one.lines.get(timeout=20) == f"loaded {NAMES[0]}"
        one.stop()

    one.run(play)


def test_a_load_that_fails_at_the_beginning_is_an_error(one: Watched, kernel: Kernel) -> None:
    kernel.fails = True
    with pytest.raises(HostNotReadyError, match="nft can't change the guard"):
        one.run(lambda: None)
    assert one.lines.empty()
    assert files() == set()


def test_a_second_watcher_is_refused(one: Watched, kernel: Kernel) -> None:
    hold(CABLES[1].bundle)
    refusal = rf"another cablectl guard \(PID {os.getpid()}\) holds the guard of {CABLES[1].bundle}"
    with pytest.raises(HostNotReadyError, match=refusal) as caught:
        one.run(lambda: None)
    assert caught.value.hint == f"stop it first: kill {os.getpid()}"
    assert kernel.transactions == []
    assert files() == {file_of(CABLES[1])}


def test_the_file_of_a_killed_watcher_is_taken_over(one: Watched, kernel: Kernel) -> None:
    journal.DIRECTORY.mkdir()
    (journal.DIRECTORY / file_of(CABLES[0])).write_text("4711")

    def play() -> None:
        assert (journal.DIRECTORY / file_of(CABLES[0])).read_text() == str(os.getpid())
        one.stop()

    one.run(play)


def test_the_table_of_a_device_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a mesh's watcher starts in the square of its peers."""
    network = native.parse(document("transport vxlan v4 mesh"), "")
    made: list[Cable] = []
    monkeypatch.setattr(guard, "load", made.append)
    tables = watcher.Watcher(network, None, lambda: None, print)._exact(network.endpoints[0])
    assert list(tables) == ["inet cablectl_vxlan-tunnel"]
    assert len(made) == 1
