"""The MSS clamp: sizes, nft's syntax, and what nft prints."""

import copy
import json
from ipaddress import ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from cablectl.config import native
from cablectl.linux import mss, nftables
from cablectl.linux.mss import CHANGED, Table
from cablectl.model.cable import Cable
from cablectl.model.wishes import Clamp, Encapsulation
from tests.support.captures import CLAMP_LISTING
from tests.support.documents import document, meshed, shaped
from tests.support.places import CAPTURES

LISTINGS = sorted(CAPTURES.glob("mss-*.json"))


class TestSize:
    """The packet that the cable carries, without the headers of IP and TCP."""

    @pytest.mark.parametrize(
        ("shape", "largest", "size"),
        [("transport vxlan v4", 1408, 1368), ("transport vxlan v6", 1388, 1328)],
    )
    def test_of_an_overlay(self, shape: str, largest: int, size: int) -> None:
        table = mss.wanted([shaped(shape)], largest)
        assert table
        assert table.size == size

    @pytest.mark.parametrize(
        ("shape", "encapsulation", "largest"),
        [
            ("tunnel v4", Encapsulation.YES, 1438),
            ("tunnel v4", Encapsulation.NO, 1446),
            ("tunnel v6", Encapsulation.YES, 1418),
            ("tunnel v4 nat", Encapsulation.YES, 1438),
        ],
    )
    def test_of_a_tunnel(self, shape: str, encapsulation: Encapsulation, largest: int) -> None:
        cable = shaped(shape)
        cable = replace(cable, ipsec=replace(cable.ipsec, encapsulation=encapsulation))
        assert mss.tunnel_mtu(cable, 1500) == largest
        assert mss.tunnel_mtu(cable, 1400) == largest - 100

    def test_of_the_file(self) -> None:
        cable = replace(shaped("tunnel v4"), mss=1200)
        assert mss.wanted([cable], 1438) == Table(1200, frozenset({"10.45.0.0/16"}))


class TestWanted:
    @pytest.mark.parametrize("shape", ["tunnel v6", "transport gre v4", "none vxlan v4"])
    def test_where_subnets_are_carried(self, shape: str) -> None:
        cable = shaped(shape)
        assert mss.is_wanted(cable)
        assert not mss.is_wanted(replace(cable, mss=Clamp.OFF))
        assert not mss.is_wanted(replace(cable, remote=replace(cable.remote, subnets=())))

    def test_not_between_hosts(self) -> None:
        cable = shaped("transport none v4")
        assert not mss.is_wanted(cable)
        assert mss.wanted([cable], 1500) is None

    def test_peers_of_a_device_share_the_table(self) -> None:
        cables = meshed("transport vxlan v4 mesh")
        assert {mss.name(cable) for cable in cables} == {"inet cablectl-mss_vxlan-tunnel"}
        table = mss.wanted(cables, 1408)
        assert table
        assert table.subnets == {"10.45.0.0/16", "10.46.0.0/16"}

    def test_neighbouring_subnets_are_one(self, cable: Cable) -> None:
        subnets = tuple(map(ip_network, ("10.46.0.0/16", "10.47.0.0/16")))
        table = mss.wanted([replace(cable, remote=replace(cable.remote, subnets=subnets))], 1408)
        assert table
        assert table.subnets == {"10.46.0.0/15"}


@pytest.mark.parametrize("path", LISTINGS, ids=lambda path: path.stem)
def test_what_nft_prints_of_what_is_loaded(path: Any) -> None:  # noqa: ANN401
    family = path.stem.split("-")[1]
    wanted = mss.wanted(meshed(f"transport vxlan {family} mesh"), 1408)
    listing = json.loads(path.read_text())
    assert mss.parse(listing) == wanted
    assert list(nftables.by_table(listing)) == ["inet cablectl-mss_vxlan-tunnel"]


def changed(kind: str, number: int, path: tuple[Any, ...], value: object) -> dict[str, Any]:
    """Return the listing with one value changed, of the table's item of that kind and number."""
    listing: dict[str, Any] = copy.deepcopy(CLAMP_LISTING)
    item = [item[kind] for item in listing["nftables"] if kind in item][number]
    for step in path[:-1]:
        item = item[step]
    item[path[-1]] = value
    return listing


@pytest.mark.parametrize(
    "listing",
    [
        changed("table", 0, ("flags",), ["dormant"]),
        changed("set", 0, ("name",), "other"),
        changed("set", 0, ("elem",), [{"range": ["10.0.0.1", "10.0.0.9"]}]),
        changed("chain", 0, ("hook",), "forward"),
        changed("chain", 1, ("prio",), 0),
        changed("chain", 1, ("policy",), "drop"),
        changed("rule", 0, ("expr", 0, "match", "op"), "!="),
        changed("rule", 0, ("expr", 1, "match", "right"), "ack"),
        changed("rule", 1, ("expr", 0, "match", "left", "payload", "field"), "saddr"),
        changed("rule", 1, ("expr", 2, "mangle", "value"), 1400),
        changed("rule", 1, ("expr",), [{"drop": None}]),
        {"nftables": [item for item in CLAMP_LISTING["nftables"] if "set" not in item]},
        {"nftables": [item for item in CLAMP_LISTING["nftables"] if "rule" not in item]},
        {"nftables": CLAMP_LISTING["nftables"][:-1]},
        {"nftables": [*CLAMP_LISTING["nftables"], CLAMP_LISTING["nftables"][-1]]},
    ],
)
def test_a_table_that_somebody_changed(listing: dict[str, Any]) -> None:
    assert mss.parse(listing) == CHANGED


def test_another_size_or_subnet_is_seen() -> None:
    listing = changed("set", 0, ("elem",), ["10.47.0.1"])
    for item in listing["nftables"]:
        if "rule" in item:
            item["rule"]["expr"][2]["mangle"]["value"] = 1200
    assert mss.parse(listing) == Table(1200, frozenset({"10.47.0.1/32"}))


def test_covers() -> None:
    needed = Table(1368, frozenset({"10.45.0.0/16"}))
    more = Table(1300, needed.subnets | {"10.46.0.0/16"})
    assert mss.covers(more, needed, shared=True)
    assert not mss.covers(more, needed, shared=False)
    assert mss.covers(needed, needed, shared=False)
    assert not mss.covers(Table(1369, needed.subnets), needed, shared=True)
    assert not mss.covers(Table(1368, frozenset({"10.46.0.0/16"})), needed, shared=True)
    assert not mss.covers(CHANGED, needed, shared=True)


def test_a_subnet_is_covered_by_one_with_its_neighbour() -> None:
    both = Table(1368, frozenset({"10.44.0.0/15"}))
    for subnet in ("10.44.0.0/16", "10.45.0.0/16"):
        needed = Table(1368, frozenset({subnet}))
        assert mss.covers(both, needed, shared=True)
        # nft refuses a set in which one element is a part of another.
        assert mss.with_subnets(needed, both) == both
    assert not mss.covers(both, Table(1368, frozenset({"10.46.0.0/16"})), shared=True)


def test_a_long_list_is_several_words() -> None:
    """A word of a command has at most 128 KiB; nft joins its words (measured with 12000)."""
    first = int(ip_network("11.0.0.0/24").network_address)
    subnets = frozenset(str(ip_network((first + 512 * i, 24))) for i in range(12000))
    _, *words = mss.load("inet x", Table(1368, subnets))
    assert len(words) > 1
    assert max(map(len, words)) < 128 * 1024
    _, listed = " ".join(words).split("elements = { ")
    assert set(listed.split(" }")[0].replace(",", " ").split()) == subnets


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("", Clamp.AUTO),
        ("mss: auto", Clamp.AUTO),
        ("mss: off", Clamp.OFF),
        ("mss: no", Clamp.OFF),
        ("mss: 536", 536),
        ("mss: 65495", 65495),
    ],
)
def test_in_the_file(line: str, expected: object) -> None:
    network = native.parse(f"{document('tunnel v4')}{line}\n", "cable.yaml")
    assert network.mss == expected
    assert {cable.mss for cable in network.cables(network.endpoints[0])} == {expected}
