"""An overlay in tunnel mode through each kind of NAT."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from ipaddress import ip_interface
from itertools import product
from typing import NamedTuple

import pytest

from cablectl.config import native
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS

from . import boxes, extent
from .cable import FILE, PSK, PSK_FILE, bring_up, child_sas, run
from .doctor import doctor
from .gateways import Gateway, Lab
from .session import Session, assert_kept, kept
from .traffic import assert_reached, assert_status_up, assert_traffic, assert_verified, standing

pytestmark = pytest.mark.lab

# 1:1 at one end; at both ends; at both ends of gateways with equal private addresses; a client of
# a server, behind a box that masquerades and chooses the ports.
KINDS = ("one", "both", "equal", "masquerade")
EACH = [
    f"{overlay} {kind} {version}"
    for overlay, kind, version in product(OVERLAYS, KINDS, ("v4", "v6"))
    if (kind, version) != ("masquerade", "v6")
]
# Each overlay and each kind once; `make nat` runs each pair.
CHOSEN = ["vxlan equal v4", "geneve both v6", "gre masquerade v4", "ipip one v4"]
PRIVATE = {"v4": ("10.0.0.4/24", "10.0.1.4/24"), "v6": ("fd00:0:0:1::4/64", "fd00:0:0:2::4/64")}
PUBLIC = {"v4": ("172.18.0.10", "172.18.0.20"), "v6": ("2001:db8::10", "2001:db8::20")}
SUBNETS = {"v4": ("10.41.0.0/16", "10.42.0.0/16"), "v6": ("2001:db8:41::/48", "2001:db8:42::/48")}
HOSTS = {"v4": ("10.41.0.9", "10.42.0.9"), "v6": ("2001:db8:41::9", "2001:db8:42::9")}


class Site(NamedTuple):
    """The box that translates, the gateway behind it, and a host behind the gateway."""

    box: Gateway
    gateway: Gateway
    host: Gateway

    def move(self, private: str) -> None:
        """Give the gateway another address, and the box that of its router."""
        interface = ip_interface(private)
        router, length = interface.network[1], interface.network.prefixlen
        nodad = "nodad" if interface.version == 6 else ""
        self.box.ip(
            "address flush dev inside scope global",
            f"address add {router}/{length} dev inside {nodad}",
        )
        self.gateway.ip(
            "address flush dev eth0 scope global",
            f"address add {private} dev eth0 {nodad}",
            f"route replace default via {router}",
        )


@pytest.fixture(scope="module")
def sites() -> Iterator[tuple[Lab, Site, Site]]:
    with Lab() as lab:
        yield lab, site(lab, 0), site(lab, 1)


def site(lab: Lab, place: int) -> Site:
    name = str(place + 1)
    box = lab.gateway(f"box{name}", f"{PUBLIC['v4'][place]}/16", f"{PUBLIC['v6'][place]}/64")
    gateway = lab.behind(f"gw{name}", box)
    host = lab.behind(
        f"host{name}", gateway, f"{HOSTS['v4'][place]}/16", f"{HOSTS['v6'][place]}/48"
    )
    made = Site(box, gateway, host)
    made.move(PRIVATE["v4"][place])
    gateway.start_pluto()
    return made


def arranged(first: Site, second: Site, kind: str, version: str) -> list[str]:
    """Have the boxes translate; return the addresses of each endpoint as the file has them."""
    (near, far), public = PRIVATE[version], PUBLIC[version]
    far = near if kind == "equal" else far
    first.move(near)
    second.move(far)
    here, there = near.partition("/")[0], far.partition("/")[0]
    both = kind in ("both", "equal")
    if kind == "masquerade":
        boxes.masquerade(first.box)
    else:
        boxes.translate(first.box, here, public[0])
    if both:
        boxes.translate(second.box, there, public[1])
    else:
        boxes.let_pass(second.box)
        first.box.ip(f"route replace {there} via {public[1]}")
    for each in (first, second):
        boxes.forget_flows(each.box)
    return [
        f"address: '{here}'" + (f", public_address: '{public[0]}'" if kind != "masquerade" else ""),
        f"address: '{there}'"
        + (f", public_address: '{public[1]}'" if both else "")
        + (", preferred_server: true" if kind == "masquerade" else ""),
    ]


def document(overlay: str, addresses: list[str], version: str) -> str:
    endpoints = "".join(
        f"  - {{cluster: k{n}, hostname: gw{n}, {where}, subnets: ['{subnet}']}}\n"
        for n, (where, subnet) in enumerate(zip(addresses, SUBNETS[version], strict=True), start=1)
    )
    return f"version: 1\nmode: tunnel\noverlay: {overlay}\nendpoints:\n{endpoints}"


def cables_of(text: str) -> list[Cable]:
    """Return the cable of a file, seen from each end."""
    network = native.parse(text, FILE)
    return [network.cables(endpoint)[0] for endpoint in network.endpoints]


@pytest.mark.parametrize("shape", EACH if extent.ALL else CHOSEN)
def test_an_overlay_through_nat(sites: tuple[Lab, Site, Site], shape: str) -> None:
    lab, *both = sites
    first, second = both
    overlay, kind, version = shape.split()
    text = document(overlay, arranged(first, second, kind, version), version)
    cables = cables_of(text)
    ends = (first.gateway, second.gateway)
    sides = tuple(zip(ends, cables, strict=True))
    with standing(lab, ends, text) as wire:
        vteps = [str(cable.local_vtep.ip) for cable in cables]
        with kept(ends[0], vteps[0], ends[1], vteps[1]):
            for (gateway, cable), here, target in zip(
                sides, both, HOSTS[version][::-1], strict=True
            ):
                assert child_sas(gateway) == sorted(cable.names)
                assert_traffic(gateway, cable)
                assert_reached(here.host, target)
            assert_status_up(sides)
            assert_verified(*sides[0])
            again = run(ends[0], "connect", FILE)
            assert again.stdout.startswith("nothing to do: "), again.stderr
            code, findings = doctor(ends[1])
            assert code == 0, findings
            assert {f["check"] for f in findings if f["state"] != "ok"} <= {"clock"}, findings
        assert 1500 - 4 < wire.summary()["esp-in-udp"].largest <= 1500


MINUTES = 3
INTERVAL = 5.0  # seconds between two messages of a session


@pytest.mark.skipif(not extent.ALL, reason="takes minutes: make nat")
def test_sessions_of_minutes_over_all_overlays_at_once(
    sites: tuple[Lab, Site, Site], record_property: Callable[[str, object], None]
) -> None:
    """Four files on each host, through 1:1 NAT and equal private addresses; one rekeying."""
    lab, first, second = sites
    del lab
    addresses = arranged(first, second, "equal", "v4")
    files = {
        overlay: several(overlay, number, addresses) for number, overlay in enumerate(OVERLAYS, 1)
    }
    cables = {overlay: cables_of(text) for overlay, text in files.items()}
    ends = (first.gateway, second.gateway)
    before = [gateway.snapshot() for gateway in ends]
    try:
        for overlay, text in files.items():
            for gateway in ends:
                gateway.write(FILE, text)
                gateway.write(f"/etc/cablectl/{overlay}.yaml", text)
                gateway.write(PSK_FILE, f"{PSK}\n")
            bring_up(*ends)
        sessions = {
            overlay: Session(
                ends[0], str(near.local_vtep.ip), ends[1], str(near.remote_vtep.ip), INTERVAL
            )
            for overlay, (near, _) in cables.items()
        }
        time.sleep(MINUTES * 30)
        for near, _ in cables.values():
            for name in near.names:
                ends[0].whack("--rekey-ipsec", "--name", name)
        time.sleep(MINUTES * 30)
        for overlay, session in sessions.items():
            both = session.stop()
            for end in both:
                record_property(f"session over {overlay}", end)
            assert both[0].seconds > MINUTES * 60 - 1
            assert_kept(both, INTERVAL)
    finally:
        for overlay in files:
            for gateway in ends:
                done = run(gateway, "teardown", f"/etc/cablectl/{overlay}.yaml")
                assert done.returncode == 0, done.stderr
    for gateway, snapshot in zip(ends, before, strict=True):
        for text in ("links", "rules", "routes", "policies", "states", "nftables", "connections"):
            assert gateway.snapshot()[text] == snapshot[text]


def several(overlay: str, number: int, addresses: list[str]) -> str:
    """Return one of several files: each has its own clusters, subnets and networks."""
    endpoints = "".join(
        f"  - {{cluster: {overlay}{n}, hostname: gw{n}, {where},"
        f" subnets: [10.{number}.{n}.0/24]}}\n"
        for n, where in enumerate(addresses, 1)
    )
    own = f"vtep: {{network: 241.{number}.0.0/16, underlay: 244.{number}.0.0/16}}\n"
    return f"version: 1\nmode: tunnel\noverlay: {overlay}\nendpoints:\n{endpoints}{own}"
