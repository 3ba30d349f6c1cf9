"""Offices: each gateway is a host of its LAN, behind the router of a provider."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from typing import NamedTuple

import pytest

from tests.support.documents import AGREED
from tests.support.places import EXAMPLES

from . import boxes
from .cable import FILE, run
from .doctor import doctor
from .gateways import Gateway, Lab
from .traffic import assert_reached, standing

pytestmark = pytest.mark.lab

PUBLIC = {"198.51.100.10": "172.18.0.10", "203.0.113.20": "172.18.0.20"}


class Office(NamedTuple):
    """The router, the gateway inside the LAN, and another host of the LAN."""

    router: Gateway
    gateway: Gateway
    host: Gateway
    network: str  # the first three octets of the LAN


@pytest.fixture(scope="module")
def offices() -> Iterator[tuple[Lab, Office, Office]]:
    """Two offices, with 4.10 and 5.2."""
    with Lab() as lab:
        first, second = (office(lab, n, release) for n, release in ((1, "4.10"), (2, "5.2")))
        # One host knows the way to the other LAN, and the default route of the other host leads to
        # the gateway.
        first.host.ip(f"route add {second.network}.0/24 via {first.network}.2")
        second.host.ip(f"route replace default via {second.network}.2")
        yield lab, first, second


def office(lab: Lab, number: int, release: str) -> Office:
    network = f"192.168.{number}0"
    router = lab.gateway(f"router{number}", f"172.18.0.{number}0/16", f"2001:db8::{number}0/64")
    gateway = lab.behind(f"gw{number}", router, f"{network}.2/24", release=release)
    host = lab.behind(f"host{number}", router, f"{network}.9/24")
    gateway.run("sysctl", "--quiet", "net.ipv4.ip_forward=1")
    gateway.start_pluto()
    return Office(router, gateway, host, network)


def document(*, public: bool) -> str:
    """Return the example, with the lab's public addresses or without any."""
    text = (EXAMPLES / "offices.yaml").read_text().replace("ipsec:\n", AGREED)
    for example, address in PUBLIC.items():
        text = text.replace(
            f"    public_address: {example}\n", f"    public_address: {address}\n" if public else ""
        )
    return text


def assert_joined(lab: Lab, offices: tuple[Office, Office], text: str) -> None:
    """Every host of either LAN reaches every host of the other one, by the gateways alone."""
    with standing(lab, [each.gateway for each in offices], text):
        for here, there in (offices, offices[::-1]):
            for sender in (here.host, here.gateway):
                assert_reached(sender, f"{there.network}.9", f"{there.network}.2")
            # No redirect led the host around the gateway.
            way = here.host.run("ip", "route", "get", f"{there.network}.9").stdout
            assert f"via {here.network}.2 " in way
            assert run(here.gateway, "status", FILE).returncode == 0
            assert run(here.gateway, "status").returncode == 0
            code, findings = doctor(here.gateway)
            assert code == 0, findings
            assert {f["check"] for f in findings if f["state"] == "warn"} <= {"clock"}, findings
            assert_verified(here, there)


def assert_verified(here: Office, there: Office) -> None:
    done = run(here.gateway, "verify", FILE, "--count", "5", "--size-sweep", "--format", "json")
    (proof,) = json.loads(done.stdout)["result"]["proofs"]
    assert (done.returncode, proof["target"]) == (0, f"{there.network}.2"), done.stdout


def test_routers_that_forward_to_the_gateways(offices: tuple[Lab, Office, Office]) -> None:
    lab, *both = offices
    for each in both:
        boxes.forward(each.router, dict.fromkeys((500, 4500), f"{each.network}.2"))
    assert_joined(lab, (both[0], both[1]), document(public=True))


def test_gateways_that_reach_each_other_inside_their_subnets(
    offices: tuple[Lab, Office, Office],
) -> None:
    """Nothing translates, as between the networks of a cloud."""
    lab, first, second = offices
    for here, there in ((first, second), (second, first)):
        boxes.let_pass(here.router)
        here.router.ip(f"route add {there.network}.0/24 via 172.18.0.{there.network[8:]}")
    assert_joined(lab, (first, second), document(public=False))


# Two gateways of one office, which share its public address, and a gateway elsewhere.
SHARED = """\
version: 1
mode: tunnel
endpoints:
  - {cluster: a, hostname: gw1, address: 192.168.10.2, public_address: 172.18.0.10,
     site: office, ike_port: 4501, subnets: [10.41.0.0/16]}
  - {cluster: b, hostname: host1, address: 192.168.10.9, public_address: 172.18.0.10,
     site: office, ike_port: 4502, subnets: [10.42.0.0/16]}
  - {cluster: c, hostname: gw2, address: 192.168.20.2, public_address: 172.18.0.20,
     subnets: [10.43.0.0/16]}
"""


def test_two_gateways_behind_one_public_address(offices: tuple[Lab, Office, Office]) -> None:
    lab, first, second = offices
    boxes.forward(first.router, {4501: "192.168.10.2", 4502: "192.168.10.9"})
    boxes.forward(second.router, {4500: "192.168.20.2"})
    first.host.start_pluto()
    gateways = (first.gateway, first.host, second.gateway)
    addresses = ("10.41.0.1", "10.42.0.1", "10.43.0.1")
    with ExitStack() as stack:
        for gateway, address in zip(gateways, addresses, strict=True):
            stack.enter_context(gateway.holds(address))
        stack.enter_context(standing(lab, gateways, SHARED + AGREED))
        for gateway, source in zip(gateways, addresses, strict=True):
            assert run(gateway, "status", FILE).returncode == 0
            assert_reached(gateway, *(each for each in addresses if each != source), source=source)
        for peer, port in (("a", 4501), ("b", 4502)):
            _, findings = doctor(second.gateway, "--peer", peer)
            answer = f"172.18.0.10 UDP {port} answers IKE_SA_INIT with SA"
            assert answer in [finding["evidence"] for finding in findings]
