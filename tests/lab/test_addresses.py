"""A gateway gets another own address: one connect moves its cables, and nothing is left behind.

Until somebody changes the file, each command says what to write.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from cablectl.config import native
from tests.support.documents import document, shaped

from .cable import FILE, PSK, PSK_FILE, bring_up, child_sas, run, tear_down
from .gateways import Gateway, Lab
from .traffic import changes, inner_addresses, largest, ping

pytestmark = pytest.mark.lab

OLD = {"v4": "172.18.0.8", "v6": "2001:db8::8"}
NEW = {"v4": "172.18.0.18", "v6": "2001:db8::18"}
LENGTH = {"v4": 16, "v6": 64}
SHAPES = (
    "tunnel v4",
    "tunnel gre v6",
    "tunnel vxlan v4",
    "transport vxlan v6",
    "transport geneve v4",
    "transport ipip v4",
)


def renumber(gateway: Gateway, family: str, old: str, new: str) -> None:
    """Replace an address of eth0, as a DHCP client does; the default route follows."""
    flags = f"-{family[1]}"
    default = gateway.run("ip", flags, "route", "show", "default").stdout.split()[2]
    nodad = "nodad" if family == "v6" else ""
    gateway.ip(
        f"address delete {old}/{LENGTH[family]} dev eth0",
        f"address add {new}/{LENGTH[family]} dev eth0 {nodad}",
        f"route replace default via {default}",
    )


@pytest.mark.parametrize("shape", SHAPES)
def test_the_own_address_changes(
    lab: Lab, shape: str, record_property: Callable[[str, object], None]
) -> None:
    c1, c2 = lab.gateways
    family = "v6" if "v6" in shape else "v4"
    old, new = OLD[family], NEW[family]
    text = document(shape)
    moved = text.replace(f"'{old}'", f"'{new}'").replace(f"'{old}/", f"'{new}/")
    for gateway in (c1, c2):
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in (c1, c2)]
    with lab.capture(getattr(shaped(shape).overlay, "port", None) or 4789) as wire:
        bring_up(c1, c2)
        renumber(c1, family, old, new)
        try:
            assert_every_command_says_what_to_write(c1, old, new)
            for gateway in (c1, c2):
                gateway.write(FILE, moved)
            bring_up(c1, c2)
            assert_carries(c1, c2, shape, moved)
        finally:
            tear_down(c1, c2)
            renumber(c1, family, new, old)
    clear = wire.summary()["overlay"].frames
    record_property(f"{shape}, clear frames of the overlay while it moves", clear)
    assert clear == 0
    for gateway, snapshot in zip((c1, c2), before, strict=True):
        gateway.write(FILE, text)
        assert changes(snapshot, gateway.snapshot()) == ""


def assert_every_command_says_what_to_write(gateway: Gateway, old: str, new: str) -> None:
    for command, code in (("connect", 3), ("plan", 3), ("doctor", 1), ("status", 1)):
        done = run(gateway, command, FILE, *(("--timeout", "5") if command == "connect" else ()))
        told = " ".join((done.stdout + done.stderr).split())
        assert (done.returncode, command) == (code, command), told
        assert old in told, told
        assert new in told, told


def assert_carries(c1: Gateway, c2: Gateway, shape: str, text: str) -> None:
    network = native.parse(text, shape)
    for gateway, end in zip((c1, c2), network.endpoints, strict=True):
        (cable,) = network.cables(end)
        # Both ends may negotiate at once: then a connection has two Child SAs for a while.
        assert set(child_sas(gateway)) == cable.names
        assert run(gateway, "connect", FILE).stdout.startswith("nothing to do: ")
        if cable.overlay or not cable.joins_subnets:
            source, to = inner_addresses(cable)
            assert ping(gateway, source, to, largest(cable)).returncode == 0
    assert run(c1, "status", FILE).returncode == 0


@pytest.mark.parametrize("shape", ["transport vxlan v4", "tunnel geneve v4"])
def test_teardown_with_the_new_file_removes_what_the_old_address_left(lab: Lab, shape: str) -> None:
    c1, c2 = lab.gateways
    text = document(shape)
    for gateway in (c1, c2):
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = c1.snapshot()
    bring_up(c1, c2)
    renumber(c1, "v4", OLD["v4"], NEW["v4"])
    c1.write(FILE, text.replace(OLD["v4"], NEW["v4"]))
    try:
        assert run(c1, "teardown", FILE).returncode == 0
    finally:
        renumber(c1, "v4", NEW["v4"], OLD["v4"])
        c1.write(FILE, text)
        tear_down(c2)
    assert changes(before, c1.snapshot()) == ""
