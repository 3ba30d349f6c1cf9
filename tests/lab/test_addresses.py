"""A gateway gets another own address: one connect moves its cable, and nothing is left behind.

Until somebody changes the file, every command says what to write.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack

import pytest

from cablectl.config import native
from cablectl.model.cable import Cable
from tests.support.documents import document

from .cable import FILE, PSK, PSK_FILE, bring_up, child_sas, run, tear_down
from .gateways import Gateway, Lab
from .traffic import changes, clear, inner_addresses, largest, ping, pinged

pytestmark = pytest.mark.lab

OLD = {"v4": "172.18.0.8", "v6": "2001:db8::8"}
NEW = {"v4": "172.18.0.18", "v6": "2001:db8::18"}
LENGTH = {"v4": 16, "v6": 64}
PUBLIC = "203.0.113.8"
# The last word says that the host keeps its old address: nobody but the file has changed.
SHAPES = (
    "tunnel v4",
    "tunnel gre v6",
    "transport vxlan v6",
    "transport geneve v4",
    "transport ipip v4 kept",
)


def family_of(shape: str) -> str:
    return "v6" if "v6" in shape else "v4"


def give(gateway: Gateway, family: str, address: str) -> None:
    nodad = "nodad" if family == "v6" else ""
    gateway.ip(f"address add {address}/{LENGTH[family]} dev eth0 {nodad}")


def renumber(gateway: Gateway, family: str, old: str, new: str) -> None:
    """Replace an address of eth0, as a DHCP client does; the default route follows."""
    default = gateway.run("ip", f"-{family[1]}", "route", "show", "default").stdout.split()[2]
    gateway.ip(f"address delete {old}/{LENGTH[family]} dev eth0")
    give(gateway, family, new)
    gateway.ip(f"route replace default via {default}")


def prepare(lab: Lab, shape: str) -> tuple[str, str]:
    """Give both gateways the file; return it, and the file with the new address."""
    text, family = document(shape.removesuffix(" kept")), family_of(shape)
    for gateway in lab.gateways:
        gateway.write(FILE, text)
        gateway.write(PSK_FILE, f"{PSK}\n")
    old, new = OLD[family], NEW[family]
    return text, text.replace(f"'{old}'", f"'{new}'").replace(f"'{old}/", f"'{new}/")


def told(gateway: Gateway, *args: str, code: int) -> str:
    """Return what a command says, on one line; AssertionError for another exit code."""
    done = run(gateway, *args)
    text = " ".join((done.stdout + done.stderr).split())
    assert done.returncode == code, text
    return text


@pytest.mark.parametrize("shape", SHAPES)
def test_one_connect_moves_the_cable(
    lab: Lab, shape: str, record_property: Callable[[str, object], None]
) -> None:
    c1, c2 = lab.gateways
    family, kept = family_of(shape), shape.endswith("kept")
    text, moved = prepare(lab, shape)
    ends = native.parse(moved, shape)
    here, there = (ends.cables(end)[0] for end in ends.endpoints)
    source, target = str(here.local.networks[0][1]), str(here.remote.networks[0][1])
    before = [gateway.snapshot() for gateway in (c1, c2)]
    with ExitStack() as stack:
        stack.enter_context(c1.holds(source))
        stack.enter_context(c2.holds(target))
        stack.callback(give_back, c1, family, kept)
        stack.callback(tear_down, c1, c2)
        bring_up(c1, c2)
        with lab.capture() as wire, pinged(c2, target, source):
            with pinged(c1, source, target):
                if kept:
                    give(c1, family, NEW[family])
                else:
                    renumber(c1, family, OLD[family], NEW[family])
                for gateway in (c1, c2):
                    gateway.write(FILE, moved)
                bring_up(c1, c2)
                assert_works(c1, here)
                assert sorted(set(child_sas(c2))) == sorted(there.names)
            # No ICMP error quotes what the other gateway still sends.
            tear_down(c1)
    count = wire.summary()["overlay"].frames + sum(clear(wire.frames, each) for each in (c1, c2))
    record_property(f"{shape}, frames in clear text while a gateway moves", count)
    assert count == 0
    for gateway, snapshot in zip((c1, c2), before, strict=True):
        gateway.write(FILE, text)
        assert changes(snapshot, gateway.snapshot()) == ""


def give_back(gateway: Gateway, family: str, kept: bool) -> None:
    if kept:
        gateway.ip(f"address delete {NEW[family]}/{LENGTH[family]} dev eth0")
    else:
        renumber(gateway, family, NEW[family], OLD[family])


def assert_works(gateway: Gateway, cable: Cable) -> None:
    """The cable carries all that it can, and nothing has the old address."""
    assert sorted(set(child_sas(gateway))) == sorted(cable.names)
    assert told(gateway, "connect", FILE, code=0).startswith("nothing to do: ")
    local, remote = inner_addresses(cable)
    assert ping(gateway, local, remote, largest(cable)).returncode == 0
    old = OLD[f"v{cable.local.address.version}"]
    for command in ("nft list ruleset", "ip xfrm policy"):
        assert f" {old} " not in gateway.run(*command.split()).stdout.replace("/", " ")


def test_every_command_says_what_to_write(lab: Lab) -> None:
    """With nothing but the new file, teardown removes what the old address left."""
    (c1, c2), shape = lab.gateways, "transport vxlan v6"
    family = family_of(shape)
    text, moved = prepare(lab, shape)
    before = c1.snapshot()
    bring_up(c1, c2)
    renumber(c1, family, OLD[family], NEW[family])
    happened = f"this host no longer has {OLD[family]}"
    try:
        for command, code in (("connect", 3), ("plan", 3), ("doctor", 1)):
            said = told(c1, command, FILE, code=code)
            assert f"{happened}, the address of cluster1; its address is {NEW[family]} now" in said
            assert f"write {NEW[family]} instead of {OLD[family]} in the file" in said
        assert happened in told(c1, "status", code=1)
        c1.write(FILE, moved)
        told(c1, "teardown", FILE, code=0)
    finally:
        renumber(c1, family, NEW[family], OLD[family])
        c1.write(FILE, text)
        tear_down(c2)
    assert changes(before, c1.snapshot()) == ""


def test_the_file_has_a_public_address(lab: Lab) -> None:
    """As on a cloud VM, which has a private address alone."""
    c1, c2 = lab.gateways
    text, _ = prepare(lab, "tunnel v4")
    c1.write(FILE, text.replace(OLD["v4"], PUBLIC))
    before = c1.snapshot()
    assert "this host has the address of no endpoint" in (said := told(c1, "connect", FILE, code=2))
    assert "--local" in said
    assert f"public_address, and {OLD['v4']} as address" in said
    remedy = f"write address: {OLD['v4']} and public_address: {PUBLIC}"
    for command, code in (("connect", 3), ("plan", 3), ("doctor", 1)):
        said = told(c1, command, FILE, "--local", "cluster1", code=code)
        assert f"no interface of this host has {PUBLIC}, the address of cluster1" in said
        assert remedy in said
    assert changes(before, c1.snapshot()) == ""
    dry = run(c2, "plan", FILE, "--dry-run", "--local", "cluster1")
    assert (dry.returncode, dry.stderr) == (0, "")
