"""The guard: which packets the rules match, how nft lists it, when a plan loads or deletes it."""

import json
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from cablectl.facts.host_facts import Facts
from cablectl.linux import guard, nftables
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Phase
from tests.support.captures import GUARD_LISTING
from tests.support.documents import SHAPES, shaped
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


def test_dropped_packets_are_counted_by_direction(cable: Cable) -> None:
    *_, last = GUARD_LISTING["nftables"]
    counter = {"counter": {"packets": 7, "bytes": 700}}
    expressions = [counter if "counter" in part else part for part in last["rule"]["expr"]]
    installed = nftables.parse(changed(expr=expressions))
    assert (installed.dropped_in, installed.dropped_out) == (0, 7)
    assert guard.is_intact(cable, installed)


@pytest.mark.parametrize(
    "listing",
    [
        changed(),
        changed(comment="somebody's"),
        {"nftables": [*GUARD_LISTING["nftables"], GUARD_LISTING["nftables"][-1]]},
        {"nftables": [{"table": {"flags": ["dormant"]}}, *GUARD_LISTING["nftables"]]},
        {"nftables": []},
    ],
    ids=["a rule deleted", "a rule replaced", "a rule added", "dormant", "flushed"],
)
def test_a_changed_guard_is_loaded_again(cable: Cable, made: Facts, listing: Any) -> None:  # noqa: ANN401
    installed = nftables.parse(listing)
    assert not guard.is_intact(cable, installed)
    plan = connect_plan.plan((cable,), (replace(made, guard=installed),))
    (step,) = plan.needed
    assert (step.argv, step.undo) == (guard.load(cable), ())
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
    assert connect_plan.plan((without,), (replace(made, guard=None),)).needed == ()
    (step,) = connect_plan.plan((without,), (made,)).needed
    assert (step.argv, step.undo) == (guard.remove(cable), (guard.load(cable),))
    assert connect_plan.plan((without,), (BLANK,)).steps[0].not_needed == "guard: false"


RULES = {
    "transport vxlan v6": ("in out", "udp dport 4789 @th,96,24 1000"),
    "transport geneve v4": ("in out", "udp dport 6081 @th,96,24 1000"),
    "transport gre v4": (
        "in",
        "ip saddr 172.18.0.7 ip daddr 172.18.0.8 meta l4proto gre @th,32,32",
    ),
    "transport gre v6": ("out", "ip6 saddr 2001:db8::8 ip6 daddr 2001:db8::7 meta l4proto gre"),
    "transport none v4": ("out", "ip saddr 172.18.0.8 ip daddr 172.18.0.7 rt ipsec missing"),
    "tunnel v4": (
        "in forward",
        "ip saddr { 10.45.0.0/16 } ip daddr { 10.44.0.0/16, 100.44.0.0/16 } meta secpath missing",
    ),
    "tunnel v6": ("out forward", "ip6 saddr { 2001:db8:44::/48, 2001:db8:144::/48 } ip6 daddr"),
}


@pytest.mark.parametrize("shape", RULES)
def test_the_rules_match_only_the_cables_packets(shape: str) -> None:
    chains, match = RULES[shape]
    _, ruleset = guard.load(shaped(shape))
    parts = dict(part.partition(" { ")[::2] for part in ruleset.split("chain ")[1:])
    for chain in chains.split():
        assert match in parts[chain]
    for chain, rules in parts.items():
        drops = [rule for rule in rules.split(";") if " drop " in rule]
        assert drops, chain
        for rule in drops:
            direction = rule.rstrip('"').rpartition(" ")[2]
            assert {"in": "meta secpath missing", "out": "rt ipsec missing"}[direction] in rule
            assert chain in (direction, "forward")
