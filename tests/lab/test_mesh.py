"""A mesh of five gateways: one has a wrong key at first, and a sixth joins and leaves."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import permutations

import pytest

from .cable import FILE, PSK, PSK_FILE
from .gateways import Gateway, Lab
from .mesh import address, connect_all, document, ping, run_on_all, vtep
from .rooms import PROGRAM
from .traffic import changes
from .wire import classify

pytestmark = pytest.mark.lab

SIX = [f"c{number}" for number in range(1, 7)]
FIVE = SIX[:5]


@pytest.fixture(scope="module")
def gateways() -> Iterator[tuple[Lab, list[Gateway]]]:
    with Lab() as lab:
        for name in SIX:
            lab.gateway(name, f"{address(name)}/16", f"2001:db8::{name[1]}/64").start_pluto()
        yield lab, lab.gateways


def spis(gateways: Sequence[Gateway]) -> list[set[str]]:
    """Return the SPIs of each gateway's SAs, except SPI 0 of SAs that the kernel waits for."""
    states = [gateway.run("ip", "xfrm", "state", "list", "nokeys").stdout for gateway in gateways]
    return [set(re.findall(r" spi (0x\w+)", text)) - {"0x00000000"} for text in states]


def traces(gateway: Gateway) -> dict[str, str]:
    """Return a snapshot without the file and the key."""
    snapshot = gateway.snapshot()
    files = (line for line in snapshot["files"].splitlines() if "/etc/cablectl/" not in line)
    return {**snapshot, "files": "\n".join(files)}


def esp(frames: Sequence[bytes]) -> Counter[tuple[str, str]]:
    """Count the frames with ESP by source and destination address."""
    return Counter(
        (".".join(map(str, frame[26:30])), ".".join(map(str, frame[30:34])))
        for frame in frames
        if classify(frame, 4789).startswith("esp")
    )


def test_a_mesh_from_one_file(gateways: tuple[Lab, list[Gateway]]) -> None:
    lab, six = gateways
    five, last = six[:5], six[4]
    for gateway in six:
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [traces(gateway) for gateway in six]

    # One gateway has a wrong key: only this gateway's cables fail and are undone.
    last.write(PSK_FILE, "quite another key, of 40 characters or so\n")
    for gateway in five:
        gateway.write(FILE, document(FIVE))
    # It waits longer than the others, so that it still answers when they ask it for the cause.
    with last.popen(PROGRAM, "connect", FILE, "--timeout", "30") as other:
        four = run_on_all(five[:4], "connect", FILE, "--timeout", "15")
        out, err = other.communicate(timeout=300)
    assert other.returncode in (1, 4), err
    assert out == ""
    assert changes(before[4], traces(last)) == ""
    for gateway, (code, output) in zip(five, four, strict=False):
        assert code == 1, output
        assert "1 of 4 cables failed" in output
        assert re.search(
            r"no Child SA for submariner-cable-c5-\S+ within 15 s: authentication", output
        )
        for name in set(FIVE[:4]) - {gateway.name}:
            assert ping(gateway, vtep(name))
        # The guard is for all peers of the file, so that nothing leaves to this one either.
        left = "\n".join(text for kind, text in traces(gateway).items() if kind != "nftables")
        assert "172.18.0.5" not in left
        assert "-c5-" not in left
    old = spis(five[:4])
    # Three peers, with two connections each, with an SA for each direction.
    assert [len(of_gateway) for of_gateway in old] == [12] * 4

    # With the right key it joins, and the other gateways keep their SAs.
    last.write(PSK_FILE, f"{PSK}\n")
    connect_all(five, FIVE)
    assert all(spis_before <= now for spis_before, now in zip(old, spis(five), strict=False))
    old = spis(five)
    assert [len(of_gateway) for of_gateway in old] == [16] * 5

    # Each frame is sent once, to one peer: a request, and the reply to the peer's request.
    with lab.capture() as wire:
        for gateway in five:
            assert all(ping(gateway, vtep(name)) for name in FIVE if name != gateway.name)
            assert not ping(gateway, "241.18.0.99")  # an unknown VTEP: no peer gets an ARP request
    pairs = permutations(map(address, FIVE), 2)
    assert esp(wire.frames) == dict.fromkeys(pairs, 2)
    assert wire.summary()["overlay"].frames == 0

    # A sixth gateway joins, and leaves again.
    connect_all(six, SIX)
    assert all(spis_before <= now for spis_before, now in zip(old, spis(five), strict=True))
    assert ping(six[5], vtep("c1"))
    assert ping(five[1], vtep("c6"))
    for code, output in run_on_all(six[5:], "teardown", FILE):
        assert code == 0, output
    connect_all(five, FIVE)
    assert spis(five) == old
    assert all("172.18.0.6" not in text for text in traces(five[0]).values())

    for code, output in run_on_all(five, "teardown", FILE):
        assert code == 0, output
    after = [traces(gateway) for gateway in six]
    assert [changes(*snapshots) for snapshots in zip(before, after, strict=True)] == [""] * 6
