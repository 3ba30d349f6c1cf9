"""What contradicts what among many endpoints: the same as if each were compared with each."""

from ipaddress import IPv4Address, IPv4Network
from itertools import combinations

from hypothesis import given
from hypothesis import strategies as st

from cablectl.config import native
from cablectl.errors import UsageError

# Few bits, so that networks meet.
TEN = 10 << 24
NETWORKS = st.tuples(st.integers(0, 15), st.integers(12, 16)).map(
    lambda drawn: IPv4Network((TEN + (drawn[0] << 20 & 0xFFFFFFFF << 32 - drawn[1]), drawn[1]))
)
GATEWAYS = st.integers(0, 13).map(lambda number: IPv4Address(TEN + (number << 20) + 9))


def told(
    endpoints: list[tuple[IPv4Address, list[IPv4Network]]], overlay: str = "none"
) -> list[str]:
    """Return what is wrong with a file that has these gateways and subnets, in mode tunnel."""
    lines = ["version: 1", f"overlay: {overlay}", "endpoints:"]
    for i, (address, subnets) in enumerate(endpoints):
        listed = ", ".join(map(str, subnets))
        lines += [f"- {{cluster: c{i}, hostname: h{i}, address: {address}, subnets: [{listed}]}}"]
    try:
        native.parse("\n".join(lines), "x")
    except UsageError as error:
        return [error.message, *error.details]
    return []


@given(st.lists(st.lists(NETWORKS, min_size=1, max_size=3), min_size=2, max_size=6))
def test_overlaps(subnets: list[list[IPv4Network]]) -> None:
    endpoints = [(IPv4Address(f"1.0.{i}.1"), each) for i, each in enumerate(subnets)]
    placed = [
        (f"endpoints[{i}].subnets[{j}]", each)
        for i, its in enumerate(subnets)
        for j, each in enumerate(its)
    ]
    expected = {
        f"{place}: '{other}' overlaps {one} of {where}; use subnets that don't overlap"
        for (where, one), (place, other) in combinations(placed, 2)
        if one.overlaps(other)
    }
    found = [line for line in told(endpoints) if " overlaps " in line]
    assert {line.partition(": ")[2] for line in found} == expected
    assert len(found) == len(expected)


@given(st.lists(st.tuples(GATEWAYS, NETWORKS), min_size=2, max_size=6))
def test_gateways_in_subnets(drawn: list[tuple[IPv4Address, IPv4Network]]) -> None:
    """Without an overlay, a gateway may be in a subnet of its own cluster."""
    endpoints = [(address, [network]) for address, network in drawn]
    for overlay in ("none", "vxlan"):
        expected = {
            f"endpoints[{i}].subnets[0]"
            for i, (_, network) in enumerate(drawn)
            for j, (address, _) in enumerate(drawn)
            if address in network and (i != j or overlay == "vxlan")
        }
        lines = told(endpoints, overlay)
        found = {line.split(": ")[1] for line in lines if " contains the gateway " in line}
        assert found == expected


@given(st.lists(GATEWAYS, min_size=2, max_size=6))
def test_addresses_of_several(drawn: list[IPv4Address]) -> None:
    lines = told([(address, []) for address in drawn])
    twice = {f"endpoints[{i}].address" for i, each in enumerate(drawn) if each in drawn[:i]}
    assert {line.split(": ")[1] for line in lines if " is the address of " in line} == twice
