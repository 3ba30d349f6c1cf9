"""An overlay in tunnel mode through each kind of NAT."""

from __future__ import annotations

import os
from collections.abc import Iterator
from ipaddress import ip_interface
from itertools import product
from typing import NamedTuple

import pytest

from cablectl.config import native
from cablectl.model.wishes import OVERLAYS

from . import boxes
from .cable import FILE, child_sas, run
from .doctor import doctor
from .gateways import Gateway, Lab
from .session import kept
from .traffic import assert_reached, assert_status_up, assert_traffic, assert_verified, standing

pytestmark = pytest.mark.lab

# 1:1 at one end; at both ends; at both ends of gateways with equal private addresses; a client of
# a server, behind a box that masquerades and chooses the ports.
KINDS = ("one", "both", "equal", "masquerade")
ALL = [
    f"{overlay} {kind} {version}"
    for overlay, kind, version in product(OVERLAYS, KINDS, ("v4", "v6"))
    if (kind, version) != ("masquerade", "v6")
]
# Each overlay twice, and each kind twice; `make nat` runs all.
CHOSEN = [
    "vxlan equal v4",
    "vxlan both v6",
    "geneve one v4",
    "geneve equal v6",
    "gre masquerade v4",
    "gre one v6",
    "ipip both v4",
    "ipip masquerade v4",
]
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


@pytest.mark.parametrize("shape", ALL if os.environ.get("LAB_ALL") else CHOSEN)
def test_an_overlay_through_nat(sites: tuple[Lab, Site, Site], shape: str) -> None:
    lab, *both = sites
    first, second = both
    overlay, kind, version = shape.split()
    text = document(overlay, arranged(first, second, kind, version), version)
    network = native.parse(text, shape)
    cables = [network.cables(endpoint)[0] for endpoint in network.endpoints]
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
