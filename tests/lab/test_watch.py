"""A watch on two real gateways mends what differs from the file, and nothing leaves in clear."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

from cablectl.run.reconciler import OFTEN, PERIOD

from .cable import FILE, VTEP, child_sas, connections, evidence, ping, prepare, sas, tear_down
from .extent import ALL
from .gateways import Gateway, Lab, two_gateways
from .rooms import PROGRAM, LabError, Process, until
from .stream import flowing

pytestmark = pytest.mark.lab

Record = Callable[[str, object], None]
GUARD = "inet cablectl_vxlan-tunnel"
DEVICE = "vxlan-tunnel"
LOG = "/tmp/watch.log"
RATE = 100  # packets a second
UNSEEN = 0.5  # seconds for which the test leaves the lab's one processor to the watch
# What connect makes in the kernel, without counters, indexes and SAs.
MADE = f"""
nft -s list table {GUARD}
ip -o link show dev {DEVICE} | sed 's/^[0-9]*: //; s/link-netnsid.*//'
ip -br address show dev {DEVICE} scope global
bridge fdb show dev {DEVICE} | sort
ip neigh show dev {DEVICE} nud permanent
ip route show table 24141
ip rule | sort
cat /proc/sys/net/ipv4/conf/{DEVICE}/rp_filter
ip xfrm policy list | grep -c tmpl
"""
# Each is broken on both gateways in turn.
FAULTS = {
    "guard deleted": f"nft delete table {GUARD}",
    "a chain of the guard flushed": f"nft flush chain {GUARD} out",
    "MTU too large": f"ip link set {DEVICE} mtu 1450",
    "device down": f"ip link set {DEVICE} down",
    "device deleted": f"ip link delete {DEVICE}",
    "address deleted": f"ip address flush dev {DEVICE}",
    "forwarding entry deleted": f"bridge fdb show dev {DEVICE}"
    f" | sed 's/ .*//; s/^/fdb delete /; s/$/ dev {DEVICE}/' | bridge -b -",
    "neighbour deleted": f"ip neigh flush dev {DEVICE} nud permanent",
    "route deleted": "ip route flush table 24141",
    "rule deleted": "ip rule delete table 24141",
    "rp_filter changed": f"echo 1 >/proc/sys/net/ipv4/conf/{DEVICE}/rp_filter",
}


class Kept:
    """A gateway whose watch runs."""

    def __init__(self, gateway: Gateway, process: Process) -> None:
        self.gateway, self.process = gateway, process
        self.made = ""

    def now(self) -> str:
        """Return what connect has made in the kernel."""
        return self.gateway.run("sh", "-c", MADE, check=False).stdout

    def is_whole(self) -> bool:
        """Tell whether the kernel has what it had before the faults."""
        return self.now() == self.made

    def await_whole(self) -> None:
        """Wait until all is mended; AssertionError with what is missing and the watch's log."""
        try:
            until(self.is_whole, "what connect has made", 10)
        except LabError as error:
            log = self.gateway.read(LOG)
            raise AssertionError(f"{error}\n{self.made}\nbut now\n{self.now()}\n{log}") from None


@contextmanager
def watching(*gateways: Gateway) -> Iterator[list[Kept]]:
    """Run a watch on each gateway; all cables are up when the block begins."""
    with ExitStack() as stack:
        kept = []
        for gateway in gateways:
            command = f"exec {PROGRAM} watch {FILE} >{LOG} 2>&1"
            process = stack.enter_context(gateway.popen("sh", "-c", command))
            stack.callback(process.kill)
            kept.append(Kept(gateway, process))
        try:
            until(lambda: all(ping(gateway).returncode == 0 for gateway in gateways), "a ping")
            for each in kept:
                each.made = each.now()
            yield kept
        except (AssertionError, LabError) as error:
            logs = "".join(evidence(each) + each.read(LOG) for each in gateways)
            raise AssertionError(f"{error}\n{logs}") from None


PAIRS = {"4.10": ("4.10", "4.10"), "5.2": ("5.2", "5.2")}


@pytest.fixture(scope="module", params=PAIRS if ALL else ["4.10"])
def pair(request: pytest.FixtureRequest) -> Iterator[Lab]:
    with two_gateways(*PAIRS[request.param]) as lab:
        for gateway in lab.gateways:
            gateway.start_pluto()
            prepare(gateway)
        yield lab


@pytest.fixture(scope="module")
def kept(pair: Lab) -> Iterator[list[Kept]]:
    with watching(*pair.gateways) as both:
        yield both


@pytest.fixture
def clear(pair: Lab, kept: list[Kept]) -> Iterator[Callable[[], int]]:
    """Return how many frames of the overlay have been on the wire in clear text; none may be."""
    with pair.capture() as wire:

        def count() -> int:
            return wire.summary()["overlay"].frames

        yield count
        assert count() == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_a_change_is_mended(
    kept: list[Kept], clear: Callable[[], int], fault: str, record_property: Record
) -> None:
    """How soon depends on what else the machine does; docs/watch.md has what an idle one needs."""
    both = [each.gateway for each in kept]
    for each in kept if ALL else [kept[list(FAULTS).index(fault) % 2]]:
        with flowing(both[0], VTEP["c1"], both[1], VTEP["c2"], RATE) as stream:
            # The watch takes more repairs of one kind for a contest with another program.
            time.sleep(PERIOD / OFTEN / 2 if ALL else 0.3)
            assert each.is_whole(), each.now()
            begin = time.monotonic()
            each.gateway.run("sh", "-c", FAULTS[fault])
            assert not each.is_whole(), "nothing is broken"
            time.sleep(UNSEEN)
            each.await_whole()
            seconds = time.monotonic() - begin
        gaps = " and ".join(f"{counted.in_a_row / RATE:.2f}" for counted in stream.counted)
        what = f"{fault}, {each.gateway.name}"
        record_property(what, f"{seconds:.2f} s, {gaps} s without a packet, {clear()} in clear")


@pytest.mark.parametrize("name", ["c1", "c2"])
def test_lost_sas_are_negotiated_again(
    kept: list[Kept], clear: Callable[[], int], name: str, record_property: Record
) -> None:
    """The kernel of one end loses its SAs, and that pluto doesn't know."""
    (end,) = (each for each in kept if each.gateway.name == name)
    end.gateway.ip("xfrm state flush")
    begin = time.monotonic()
    until(lambda: len(sas(end.gateway)) == 4, "SAs")
    until(lambda: ping(end.gateway).returncode == 0, "a ping")
    seconds = time.monotonic() - begin
    record_property(f"SAs flushed, {name}", f"{seconds:.2f} s, {clear()} in clear")
    both = [each.gateway for each in kept]
    until(lambda: all(child_sas(each) == connections(each) for each in both), "one Child SA each")
    for each in kept:
        each.await_whole()


def test_a_child_sa_too_many_is_deleted_without_loss(
    kept: list[Kept], record_property: Record
) -> None:
    """The end that begins does it, before the other one would."""
    both = [each.gateway for each in kept]
    both[1].whack("--initiate", "--asynchronous", "--name", connections(both[1])[0])
    until(lambda: all(len(child_sas(each)) == 3 for each in both), "a second Child SA")
    begin = time.monotonic()
    with flowing(both[0], VTEP["c1"], both[1], VTEP["c2"], RATE) as stream:
        until(lambda: all(child_sas(each) == connections(each) for each in both), "one Child SA")
        seconds = time.monotonic() - begin
        time.sleep(1)
    lost = [counted.lost for counted in stream.counted]
    record_property("a Child SA too many", f"{seconds:.2f} s, {lost} packets lost")
    assert lost == [0, 0]


def test_a_killed_pluto_gets_its_connections_back(
    kept: list[Kept], clear: Callable[[], int], record_property: Record
) -> None:
    first, _ = kept
    first.gateway.kill_pluto()
    first.gateway.start_pluto()
    begin = time.monotonic()
    until(lambda: child_sas(first.gateway) == connections(first.gateway), "Child SAs")
    until(lambda: ping(first.gateway).returncode == 0, "a ping")
    seconds = time.monotonic() - begin
    record_property("pluto killed", f"{seconds:.2f} s after its return, {clear()} in clear")


def test_a_changed_file_is_applied_at_a_reload(kept: list[Kept]) -> None:
    first, _ = kept
    gateway, text = first.gateway, first.gateway.read(FILE)
    gateway.write(FILE, text.replace("10.45.0.0/16", "10.46.0.0/16"))
    gateway.run("pkill", "-HUP", "-f", "cablectl watch")
    try:
        until(lambda: "10.45.0.0/16" not in first.now(), "the old route is gone", 20)
    except LabError as error:
        raise AssertionError(f"{error}\n{first.now()}{gateway.read(LOG)}") from None
    assert "10.46.0.0/16 via" in first.now()
    gateway.write(FILE, text)
    gateway.run("pkill", "-HUP", "-f", "cablectl watch")
    first.await_whole()


def test_a_teardown_by_hand_is_not_fought(kept: list[Kept]) -> None:
    """The watch ends with the last of its cables; after that a connect by hand needs no watch."""
    first, _ = kept
    tear_down(first.gateway)
    assert first.process.wait(30) == 0, first.gateway.read(LOG)
    assert DEVICE not in first.gateway.run("ip", "link").stdout
    assert "teardown has removed every cable" in first.gateway.read(LOG)
