"""A mesh with a key for each pair: a key that leaks opens its own cable and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from .cable import FILE
from .gateways import Gateway, Lab
from .mesh import address, connect_all, document, ping, run_on_all, vtep
from .rooms import PROGRAM

pytestmark = pytest.mark.lab

ALL, OWN = "/tmp/all-keys", "/etc/cablectl/keys"
NAMES = ["c1", "c2", "c3"]
NEW = (PROGRAM, "secret", "new", "--pairs", FILE, "--out")


@pytest.fixture(scope="module")
def gateways() -> Iterator[list[Gateway]]:
    with Lab() as lab:
        for name in NAMES:
            lab.gateway(name, f"{address(name)}/16", f"2001:db8::{name[1]}/64").start_pluto()
        yield lab.gateways


def mesh(initiate: str = "auto") -> str:
    ipsec = f"{{psk: {{directory: {OWN}}}, initiate: {initiate}}}"
    return re.sub(r"\{psk: .*\}", ipsec, document(NAMES))


def hand_out(gateways: list[Gateway]) -> dict[str, str]:
    """Make all keys on the first gateway, and give each gateway its own; return all keys."""
    first, *_ = gateways
    first.write(FILE, mesh())
    assert first.run(*NEW, ALL).stdout.startswith("3 new, 0 there already")
    every: dict[str, str] = {}
    for gateway in gateways:
        copies = f"/tmp/for-{gateway.name}"
        first.run(*NEW, copies, "--for", gateway.name, "--from", ALL)
        names = first.run("ls", copies).stdout.split()
        assert len(names) == 2
        gateway.run("mkdir", "-m", "700", "-p", OWN)
        for name in names:
            every[name] = first.read(f"{copies}/{name}")
            gateway.write(f"{OWN}/{name}", every[name])
    first.run("rm", "-r", ALL, *(f"/tmp/for-{name}" for name in NAMES))
    return every


def pose(impostor: Gateway, key: str) -> tuple[int, str]:
    """Have a gateway take the second one's address and name, and a key for the first one."""
    impostor.write(FILE, mesh("both"))
    impostor.write(f"{OWN}/c1+c2", key)
    with impostor.holds(address("c2")):
        impostor.whack("--listen")
        only = ("--local", "c2", "--peer", "c1", "--timeout", "4")
        ((code, text),) = run_on_all([impostor], "connect", FILE, *only)
        if code == 0:
            assert ping(impostor, vtep("c1"))
        run_on_all([impostor], "teardown", FILE, "--local", "c2", "--peer", "c1")
    return code, text


def test_a_key_of_a_pair_opens_one_cable_only(gateways: list[Gateway]) -> None:
    first, second, third = gateways
    every = hand_out(gateways)
    connect_all(gateways, NAMES, mesh())
    for gateway in gateways:
        for name in NAMES:
            assert name == gateway.name or ping(gateway, vtep(name))
    held = {gateway.name: gateway.run("ls", OWN).stdout.split() for gateway in gateways}
    assert held["c3"] == ["c1+c3", "c2+c3"]

    # Without one key, only this cable is refused; the other one stays.
    third.run("mv", f"{OWN}/c2+c3", "/tmp/away")
    ((code, text),) = run_on_all([third], "connect", FILE)
    assert code == 3, text
    assert f"ipsec.psk.directory: {OWN}/c2+c3: No such file or directory" in text
    assert ping(third, vtep("c1"))
    third.run("mv", "/tmp/away", f"{OWN}/c2+c3")

    # The second gateway is off, and the third one poses as it towards the first one.
    for gateway in (third, second):
        assert run_on_all([gateway], "teardown", FILE)[0][0] == 0
    second.stop_pluto()
    second.run("ip", "link", "set", "eth0", "down")
    first.run("ip", "neigh", "flush", "dev", "eth0")
    code, text = pose(third, every["c1+c3"])
    assert code != 0
    assert "authentication" in text
    code, text = pose(third, every["c1+c2"])
    assert code == 0, text
