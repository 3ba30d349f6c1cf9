"""A peer's cluster gets another gateway: one connect replaces the old one, without clear text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import pytest

from cablectl.model.wishes import Mode
from tests.support.documents import document, shaped

from .cable import FILE, PSK, PSK_FILE, bring_up, run, tear_down
from .extent import chosen
from .gateways import Gateway, Lab
from .rooms import PROGRAM
from .traffic import changes, clear, pinged

pytestmark = pytest.mark.lab

SHAPES = (
    *("tunnel v4", "tunnel v6", "transport vxlan v4", "transport vxlan v6", "transport gre v4"),
    *("transport gre v6", "transport geneve v4", "transport ipip v6", "none vxlan v4"),
)
# The standby gateway of the last cluster has this number instead of the other one.
STANDBY = {"pair": ("7", "5"), "mesh": ("6", "5")}


@pytest.fixture(scope="module")
def four() -> Iterator[tuple[Lab, list[Gateway]]]:
    with Lab() as lab:
        for number in "8765":
            name, address = f"c{number}", f"172.18.0.{number}/16"
            lab.gateway(name, address, f"2001:db8::{number}/64").start_pluto()
        yield lab, lab.gateways


def after_failover(text: str, kind: str) -> str:
    old, new = STANDBY[kind]
    text = text.replace(f"172.18.0.{old}'", f"172.18.0.{new}'")
    return text.replace(f"2001:db8::{old}'", f"2001:db8::{new}'")


def give(gateways: Sequence[Gateway], text: str) -> None:
    for gateway in gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")


@contextmanager
def dead(lab: Lab, gateway: Gateway) -> Iterator[None]:
    """Cut a gateway off, as if it had died."""
    lab.switch.ip(f"link set {gateway.name} down")
    try:
        yield
    finally:
        lab.switch.ip(f"link set {gateway.name} up")


def connect(*gateways: Gateway) -> None:
    """Run connect once on all gateways at once; AssertionError with connect's error."""
    running = [gateway.popen(PROGRAM, "connect", FILE) for gateway in gateways]
    for process in running:
        _, err = process.communicate(timeout=150)
        assert process.returncode == 0, err


def answers(gateway: Gateway, source: str, target: str) -> bool:
    done = gateway.run("ping", "-c", "3", "-i", "0.2", "-W", "3", "-I", source, target, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("shape", chosen(SHAPES, 1))
def test_a_pair(four: tuple[Lab, list[Gateway]], shape: str) -> None:
    lab, (c8, c7, _, c5) = four
    cable, text = shaped(shape), document(shape)
    source, target = str(cable.local.networks[0][1]), str(cable.remote.networks[0][1])
    give((c8, c7, c5), text)
    before = [gateway.snapshot() for gateway in (c8, c5)]
    with ExitStack() as stack:
        stack.callback(tear_down, c8, c7, c5)
        stack.enter_context(c8.holds(source))
        for gateway in (c7, c5):
            stack.enter_context(gateway.holds(target))
        bring_up(c8, c7)
        assert answers(c8, source, target)
        give((c8, c5), after_failover(text, "pair"))
        with lab.capture() as wire, dead(lab, c7), pinged(c8, source, target):
            bring_up(c8, c5)
            assert answers(c8, source, target)
            again = run(c8, "connect", FILE)
            assert again.stdout.startswith("nothing to do: "), again.stdout + again.stderr
            status = run(c8, "status", FILE)
            assert status.returncode == 0, status.stdout
        assert (clear(wire.frames, c8) == 0) == (cable.mode is not Mode.NONE)
        old = "\n".join(c8.snapshot().values())
        assert str(cable.remote.address) not in old
        assert cable.id not in old
    for gateway in (c8, c5):
        gateway.write(FILE, text)
    after = [gateway.snapshot() for gateway in (c8, c5)]
    assert [changes(*each) for each in zip(before, after, strict=True)] == ["", ""]


@pytest.mark.parametrize(
    "shape", ["tunnel v4", "transport vxlan v6", "transport gre v4", "transport geneve v6"]
)
def test_teardown_with_the_new_file_alone(four: tuple[Lab, list[Gateway]], shape: str) -> None:
    """Also of a cable that connect never saw with the new file."""
    lab, (c8, c7, *_) = four
    text = document(shape)
    give((c8, c7), text)
    before = c8.snapshot()
    with ExitStack() as stack:
        stack.callback(tear_down, c8, c7)
        bring_up(c8, c7)
        with dead(lab, c7):
            c8.write(FILE, after_failover(text, "pair"))
            done = run(c8, "teardown", FILE)
            assert done.returncode == 0, done.stderr
        c8.write(FILE, text)
        assert changes(before, c8.snapshot()) == ""


@pytest.mark.parametrize("shape", ["transport vxlan v4", "transport vxlan v6", "tunnel v4"])
def test_a_mesh(four: tuple[Lab, list[Gateway]], shape: str) -> None:
    lab, (c8, c7, c6, c5) = four
    text = document(f"{shape} mesh")
    hosts = {c8: "10.44.0.1", c7: "10.45.0.1", c6: "10.46.0.1", c5: "10.46.0.1"}
    if "v6" in shape:
        hosts = {c8: "2001:db8:44::1", c7: "2001:db8:45::1"}
        hosts |= dict.fromkeys((c6, c5), "2001:db8:46::1")
    give((c8, c7, c6, c5), text)
    before = [gateway.snapshot() for gateway in (c8, c7, c5)]
    with ExitStack() as stack:
        stack.callback(tear_down, c8, c7, c6)
        for gateway, host in hosts.items():
            stack.enter_context(gateway.holds(host))
        connect(c8, c7, c6)
        assert answers(c8, hosts[c8], hosts[c6])
        give((c8, c7, c5), after_failover(text, "mesh"))
        stack.callback(tear_down, c5)
        with lab.capture() as wire, dead(lab, c6), pinged(c8, hosts[c8], hosts[c6]):
            connect(c8, c7, c5)
            for one, other in ((c8, c5), (c7, c5), (c5, c8), (c8, c7)):
                assert answers(one, hosts[one], hosts[other]), (one.name, other.name)
            again = run(c8, "connect", FILE)
            assert again.stdout.startswith("nothing to do: "), again.stdout + again.stderr
            assert run(c8, "status", FILE).returncode == 0
        assert clear(wire.frames, c8) == 0
    for gateway in (c8, c7, c5):
        gateway.write(FILE, text)
    after = [gateway.snapshot() for gateway in (c8, c7, c5)]
    assert [changes(*each) for each in zip(before, after, strict=True)] == [""] * 3
