"""The guard: which packets the rules match, how nft lists it, when a plan loads or deletes it."""

import json
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cablectl.config import native
from cablectl.facts.host_facts import Facts
from cablectl.linux import guard, guard_file, nftables
from cablectl.linux.nftables import Table
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Phase
from tests.support.captures import GUARD_LISTING
from tests.support.documents import SHAPES, document, meshed, shaped
from tests.support.places import CAPTURES
from tests.support.plans import BLANK


def changed(**rule: Any) -> dict[str, Any]:  # noqa: ANN401
    """Return the listing with these values in the last rule, or without the last rule."""
    *others, last = GUARD_LISTING["nftables"]
    return {"nftables": [*others, *([{"rule": last["rule"] | rule}] if rule else [])]}


@pytest.mark.parametrize("capture", sorted(CAPTURES.glob("nft-*.json")), ids=lambda path: path.stem)
def test_a_listing_of_nft_is_parsed(cable: Cable, capture: Path) -> None:
    installed = nftables.parse(json.loads(capture.read_text()))
    assert installed == guard.made(cable)
    assert guard.is_intact(cable, installed)


@pytest.mark.parametrize("capture", sorted(CAPTURES.glob("nft-*.json")), ids=lambda path: path.stem)
def test_sets_and_chains_stay_where_only_their_content_is_replaced(
    cable: Cable, capture: Path
) -> None:
    listing = json.loads(capture.read_text())
    table = "inet cablectl_vxlan-tunnel"
    flushed = f"flush table {table}; flush set {table} remote; flush set {table} peers; table"
    more = replace(cable.remote, subnets=(*cable.remote.subnets, ip_network("10.46.0.0/16")))
    for wanted in (cable, replace(cable, others=(more,)), replace(cable, beside="rotate-1")):
        assert guard.load(wanted, nftables.parse(listing))[1].startswith(flushed)

    anew = f"table {table}; delete table {table}; table"
    item = {kind: value for each in listing["nftables"] for kind, value in each.items()}
    others = [
        [{"set": item["set"] | {"name": "another"}}],
        [{"set": item["set"] | {"name": "peers", "flags": ["interval"]}}],
        [{"chain": item["chain"] | {"name": "another"}}],
        [{"map": {"name": "another"}}],
    ]
    for more_items in others:
        known = nftables.parse({"nftables": [*listing["nftables"], *more_items]})
        assert guard.load(cable, known)[1].startswith(anew)
    assert guard.load(cable)[1].startswith(anew)


def test_dropped_packets_are_counted_by_direction(cable: Cable) -> None:
    before, _, after = json.dumps(GUARD_LISTING).rpartition('"packets": 0')
    installed = nftables.parse(json.loads(f'{before}"packets": 7{after}'))
    assert guard.dropped(installed) == (0, 7)
    assert guard.is_intact(cable, installed)


@pytest.mark.parametrize(
    "listing",
    [
        changed(),
        changed(comment="somebody's"),
        {"nftables": [*GUARD_LISTING["nftables"], GUARD_LISTING["nftables"][-1]]},
        {"nftables": [{"table": {"flags": ["dormant"]}}, *GUARD_LISTING["nftables"]]},
        {"nftables": [{"table": {"flags": "x"}}, *GUARD_LISTING["nftables"]]},
        {"nftables": []},
    ],
    ids=[
        "a rule deleted",
        "a rule replaced",
        "a rule added",
        "dormant",
        "dormant for nft 1.0.6",
        "flushed",
    ],
)
def test_a_changed_guard_is_loaded_again(cable: Cable, made: Facts, listing: Any) -> None:  # noqa: ANN401
    installed = nftables.parse(listing)
    assert not guard.is_intact(cable, installed)
    plan = connect_plan.plan((cable,), (replace(made, guard=installed),))
    (step,) = plan.needed
    assert (step.argv, step.undo) == (guard.load(cable, installed), ())
    assert plan.warnings[0].startswith("the guard ")
    assert "was changed" in plan.warnings[0]


def test_a_deleted_guard_gives_a_warning_and_is_loaded(cable: Cable, made: Facts) -> None:
    plan = connect_plan.plan((cable,), (replace(made, guard=None),))
    (step,) = plan.needed
    assert step.undo == (guard.remove(cable),)
    assert "is missing" in plan.warnings[0]
    assert connect_plan.plan((cable,), (BLANK,)).warnings == ()


def test_the_guard_of_another_file_is_not_this_cables_guard(cable: Cable) -> None:
    assert cable.overlay
    other = replace(cable, overlay=replace(cable.overlay, port=4790))
    assert not guard.is_intact(other, guard.made(cable))


@pytest.mark.parametrize("shape", SHAPES)
def test_the_guard_is_loaded_first_and_deleted_last(shape: str) -> None:
    cable = shaped(shape)
    if shape.startswith("none"):
        assert not cable.guarded
        assert Phase.GUARD not in {
            step.phase for step in connect_plan.plan((cable,), (BLANK,)).steps
        }
        return
    first, *rest = connect_plan.plan((cable,), (BLANK,)).steps
    assert (first.phase, first.argv, first.undo) == (
        Phase.GUARD,
        guard.load(cable),
        (guard.remove(cable),),
    )
    assert rest
    teardown = teardown_plan.plan((cable,), (replace(BLANK, guard=guard.made(cable)),))
    assert teardown.steps[-1].argv == guard.remove(cable)
    assert teardown.needed == (teardown.steps[-1],)


def test_with_guard_false_no_guard_is_loaded(cable: Cable, made: Facts) -> None:
    without = replace(cable, guard=False)
    assert (
        connect_plan.plan((without,), (replace(made, guard=None, guard_watched=False),)).needed
        == ()
    )
    let_go, step = connect_plan.plan((without,), (made,)).needed
    assert let_go.argv == guard_file.remove(cable)
    assert (step.argv, step.undo) == (guard.remove(cable), (guard.load(cable),))
    assert connect_plan.plan((without,), (BLANK,)).steps[0].not_needed == "guard: false"


# The whole of some tables, as nft prints them without counters, spaces and comments.
TABLES = {
    "tunnel v4": """
        set remote { 10.45.0.0/16 }
        in prerouting -110: ip saddr @remote meta ipsec missing counter drop
        out postrouting 110: ip daddr @remote rt ipsec missing counter drop
        redirects output -500: @th,192,32 & 0xffff0000 == 170721280 icmp type redirect drop
        reassemble: ct state new
    """,
    "tunnel v6": """
        set remote { 2001:db8:45::/48 }
        in prerouting -110: ip6 saddr @remote meta ipsec missing counter drop
        out postrouting 110: ip6 daddr @remote rt ipsec missing counter drop
        redirects output -500: @th,192,32 536939960 @th,224,32 & 0xffff0000 == 4521984
            icmpv6 type nd-redirect drop
        reassemble: ct state new
    """,
    "transport gre v6": """
        set remote { 2001:db8:45::/48, fdca:b1e0::7 }
        set peers { 2001:db8::7 }
        in prerouting -110: ip6 saddr @remote iifname != "gre-tunnel" counter drop
        in prerouting -110: ip6 saddr 2001:db8::7 ip6 daddr 2001:db8::8 meta l4proto gre
            @th,32,32 1000 meta ipsec missing counter drop
        through forward -500: ip6 daddr @peers meta l4proto gre @th,32,32 1000 counter drop
        errors output -500: ip6 daddr @peers @th,112,8 47 icmpv6 type destination-unreachable drop
        errors output -500: ip6 daddr @peers @th,112,8 47 icmpv6 type parameter-problem drop
        out postrouting 110: ip6 daddr @remote oifname != "gre-tunnel" counter drop
        out postrouting 110: ip6 saddr 2001:db8::8 ip6 daddr 2001:db8::7 meta l4proto gre
            @th,32,32 1000 rt ipsec missing counter drop
        reassemble: ct state new
    """,
    "transport vxlan v4 mesh": """
        set remote { 10.45.0.0/16, 10.46.0.0/16, 241.18.0.7, 241.18.0.6 }
        set peers { 172.18.0.7, 172.18.0.6 }
        in prerouting -110: ip saddr @remote iifname != "vxlan-tunnel" counter drop
        in prerouting -110: udp dport 4789 @th,96,24 1000 meta ipsec missing counter drop
        in prerouting -110: udp dport 4789 @th,96,24 1000 ip saddr != @peers counter drop
        through forward -500: ip daddr @peers udp dport 4789 @th,96,24 1000 counter drop
        local output -500: udp dport 4789 @th,96,24 1000 rt ipsec missing counter drop
        local output -500: ip daddr @peers udp dport 4789 @th,96,24 1000 meta mark & 0x1000 == 0
            counter drop
        own postrouting 500: oifname "vxlan-tunnel" meta mark set meta mark | 0x1000
        errors output -500: ip daddr @peers @th,136,8 17 @th,240,16 4789
            icmp type destination-unreachable drop
        out postrouting 110: ip daddr @remote oifname != "vxlan-tunnel" counter drop
        out postrouting 110: ip daddr @peers udp dport 4789 @th,96,24 1000 rt ipsec missing
            counter drop
        reassemble: ct state new
    """,
    "tunnel geneve v4": """
        set remote { 10.45.0.0/16, 241.18.0.7 }
        set peers { 244.18.0.7 }
        in prerouting -110: ip saddr @remote iifname != "geneve-tunnel" counter drop
        in prerouting -110: udp dport 6081 @th,96,24 1000 meta ipsec missing counter drop
        in prerouting -110: udp dport 6081 @th,96,24 1000 ip saddr != @peers counter drop
        through forward -500: ip daddr @peers udp dport 6081 @th,96,24 1000 counter drop
        through forward -500: ip saddr @peers udp dport 6081 @th,96,24 1000 drop
        local output -500: udp dport 6081 @th,96,24 1000 rt ipsec missing counter drop
        local output -500: ip daddr @peers udp dport 6081 @th,96,24 1000 meta mark & 0x1000 == 0
            counter drop
        local output -500: ip saddr 244.18.0.8 ip daddr @peers udp dport 6081 @th,96,24 1000 notrack
        own postrouting 500: oifname "geneve-tunnel" meta mark set meta mark | 0x1000
        out postrouting 110: ip daddr @remote oifname != "geneve-tunnel" counter drop
        out postrouting 110: ip daddr @peers udp dport 6081 @th,96,24 1000 rt ipsec missing
            counter drop
        reassemble: ct state new
    """,
    "transport none v4": """
        in prerouting -110: ip saddr 172.18.0.7 ip daddr 172.18.0.8 meta l4proto esp accept
        in prerouting -110: ip saddr 172.18.0.7 ip daddr 172.18.0.8 udp dport { 500, 4500 } accept
        in prerouting -110: ip saddr 172.18.0.7 ip daddr 172.18.0.8 meta ipsec missing counter drop
        out postrouting 110: ip saddr 172.18.0.8 ip daddr 172.18.0.7 meta l4proto esp accept
        out postrouting 110: ip saddr 172.18.0.8 ip daddr 172.18.0.7 udp dport { 500, 4500 } accept
        out postrouting 110: ip saddr 172.18.0.8 ip daddr 172.18.0.7 rt ipsec missing counter drop
        reassemble: ct state new
    """,
}


def lines(table: Table) -> Iterator[str]:
    """Yield a table's sets and rules as in TABLES."""
    for each in table.sets:
        yield f"set {each.name} {{ {', '.join(each.elements)} }}"
    for chain in table.chains:
        base = f" {chain.hook} {chain.priority}" if chain.hook else ""
        for rule in chain.rules:
            yield f"{chain.name}{base}: {' '.join(map(nftables.text, rule.expressions))}"


@pytest.mark.parametrize("shape", TABLES)
def test_tables(shape: str) -> None:
    cable, *_ = meshed(shape)
    assert " ".join(lines(guard.table_of(cable))).split() == TABLES[shape].split()


def test_ike_and_esp_of_a_gateway_in_its_own_subnet_pass() -> None:
    inside = list(lines(guard.table_of(shaped("tunnel v4 inside"))))
    accepted = "out postrouting 110: ip saddr 10.44.0.8 ip daddr 10.45.0.7 meta l4proto esp accept"
    assert accepted in inside
    assert inside.index("in prerouting -110: ip saddr @remote meta ipsec missing counter drop") == 3


@pytest.mark.parametrize("shape", [shape for shape in SHAPES if not shape.startswith("none")])
def test_the_command_is_the_table(shape: str) -> None:
    cable = shaped(shape)
    _, command = guard.load(cable)
    for line in lines(guard.table_of(cable)):
        _, _, rule = line.partition(": ") if ": " in line else ("", "", line.partition(" { ")[2])
        assert rule in command


def test_the_kernel_reassembles_fragments() -> None:
    """Without an expression of connection tracking, a first fragment may hide port and VNI."""
    for shape in SHAPES:
        if not shape.startswith("none"):
            (_, command) = guard.load(shaped(shape))
            assert " ct " in command


def test_cables_of_one_device_have_one_table() -> None:
    first, second = meshed("transport vxlan v4 mesh")
    assert guard.load(first) == guard.load(second)


def test_the_table_of_a_device_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the state of a mesh takes the square of its peers."""
    cables = meshed("transport vxlan v4 mesh")
    made = guard.made(cables[0])
    monkeypatch.setattr(guard, "table_of", None)
    assert all(guard.is_intact(cable, made) for cable in cables)


def test_without_a_file_the_table_has_to_be_as_it_was_loaded(cable: Cable) -> None:
    """Traces don't show the remote subnets, so the comments' checksum must be that of the rules."""
    traced, made = replace(cable, traced=True), guard.made(shaped("transport vxlan v4"))
    assert guard.is_intact(traced, made)
    assert not guard.is_intact(traced, replace(made, fingerprint="changed"))
    assert not guard.is_intact(traced, None)


def test_another_overlay_is_another_table() -> None:
    cable, *_ = meshed("transport vxlan v4 mesh")
    assert cable.overlay
    for changed_cable in (
        replace(cable, overlay=replace(cable.overlay, device="other")),
        replace(cable, overlay=replace(cable.overlay, port=4790)),
        replace(cable, vtep_network=ip_network("10.200.0.0/16")),
    ):
        assert not guard.is_intact(changed_cable, guard.made(cable))


def test_the_command_of_many_peers_is_split_into_words() -> None:
    """Linux takes words of less than 131072 bytes, and nft joins its words."""
    cable = shaped("transport vxlan v4")
    subnets = tuple(ip_network(f"10.{i >> 8}.{i & 255}.0/24") for i in range(1 << 14))
    many = replace(cable, others=(replace(cable.remote, subnets=subnets),))
    _, *words = guard.load(many)
    assert len(words) > 1
    assert max(map(len, words)) < 131072
    assert " ".join(words).count("/24") == len(subnets)
    assert f'comment "{nftables.MARK}{nftables.fingerprint(guard.table_of(many))} in"' in words[-1]


def test_before_the_endpoint_is_known_everything_between_clusters_is_dropped() -> None:
    """Each cluster's own traffic passes, and what the gateways send to each other."""
    network = native.parse(document("transport vxlan v4 mesh"), "")
    table = guard.unlocated(network)
    sets = {each.name: each.elements for each in table.sets}
    assert sets["cluster1"] == ("10.45.0.0/16", "172.18.0.7")
    assert sets["carried"][-1] == "241.18.0.6"
    assert {"172.18.0.8", "172.18.0.7", "172.18.0.6"}.isdisjoint(sets["carried"])
    rules = [line.partition(": ")[2] for line in lines(table)]
    for pair in (("saddr", "daddr"), ("daddr", "saddr")):
        here, there = pair
        rule = f"ip {here} @cluster1 ip {there} @carried ip {there} != @cluster1 counter drop"
        assert rules.count(rule) == 2


def test_whatever_other_programs_load_is_read() -> None:
    """A changed table may have any expression, and so have the tables of others."""
    for name in ("firewall-nft.json", "firewalld-1.3-masquerade.json"):
        listing = json.loads((CAPTURES / name).read_text())
        assert nftables.parse(listing).mark == ""
        assert nftables.by_table(listing) == {}
