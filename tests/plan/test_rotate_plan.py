"""The plans of a rotation: their order, and what they never do."""

import pytest
from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, Facts, connected
from cablectl.linux import guard, iproute
from cablectl.model import rotation
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan, rotate_plan
from cablectl.plan.steps import Phase, Plan
from tests.support.documents import shaped
from tests.support.plans import BLANK, needed

SHAPES = ["transport vxlan v4", "transport gre v6", "tunnel geneve v4", "tunnel ipip v6"]


def of(shape: str) -> tuple[Cable, Facts, Cable, Facts]:
    """Return a cable that is up beside its detour, which is up as well, and their facts."""
    cable = rotation.with_detour(shaped(shape))
    (detour,) = rotation.detours_of((cable,))
    return cable, made(cable), detour, made(detour)


def made(cable: Cable, *, up: bool = True) -> Facts:
    assert cable.overlay
    return connected(cable, BLANK, connect_plan.overlay_mtu(cable, BLANK, cable.overlay), up=up)


def phases(plan: Plan) -> list[Phase]:
    return [step.phase for step in plan.needed]


@pytest.mark.parametrize("shape", SHAPES)
class TestPlans:
    def test_a_detour_negotiates_nothing_while_it_is_made(self, shape: str) -> None:
        _, _, detour, _ = of(shape)
        plan = rotate_plan.made((detour,), (BLANK,))
        assert Phase.INITIATE not in phases(plan)
        assert Phase.WAIT not in phases(plan)
        carried = {rule.to for rule in iproute.moving_rules(detour)}
        assert not any(words[6] in carried for words in rules(plan))

    def test_the_rule_to_the_vtep_is_the_last_one(self, shape: str) -> None:
        cable, _, detour, facts = of(shape)
        used = rotation.use(detour)
        there = rules(rotate_plan.made((used,), (facts,)))
        assert len(needed(rotate_plan.made((used,), (facts,)))) == len(there)
        assert there[-1][6].startswith(f"{cable.remote_vtep.ip}/")
        assert len(there) == len(cable.remote.networks) + 1
        back = rules(rotate_plan.returned((used,), (made(used),)))
        assert [words[6] for words in back] == [words[6] for words in there]

    def test_the_routes_have_the_source_that_the_cable_has(self, shape: str) -> None:
        cable, _, detour, _ = of(shape)
        way = iproute.routes(detour, "")[-1]
        assert way[0].startswith(f"{cable.remote_vtep.ip}/")
        assert way[2] == str(cable.local_vtep.ip)

    def test_no_route_is_deleted_while_traffic_uses_it(self, shape: str) -> None:
        _, _, detour, facts = of(shape)
        used = rotation.use(detour)
        plans = [
            rotate_plan.made((used,), (facts,)),
            rotate_plan.returned((used,), (made(used),)),
        ]
        assert not any(" route " in line for plan in plans for line in needed(plan))

    def test_rules_of_a_run_that_was_killed_stay(self, shape: str) -> None:
        _, _, detour, _ = of(shape)
        assert needed(rotate_plan.made((detour,), (made(rotation.use(detour)),))) == []

    def test_rules_that_a_killed_run_has_removed_stay_away(self, shape: str) -> None:
        _, _, detour, _ = of(shape)
        used = rotation.use(detour)
        whole = made(used)
        gone = iproute.moving_rules(detour)[0]
        begun = replace(whole, overlay=replace(whole.overlay, rules=whole.overlay.rules - {gone}))
        assert len(needed(rotate_plan.made((used,), (begun,)))) == 1
        assert needed(rotate_plan.made((detour,), (begun,))) == []
        assert len(needed(rotate_plan.returned((used,), (begun,)))) == len(used.remote.networks)

    def test_what_is_made_needs_nothing(self, shape: str) -> None:
        cable, facts, detour, of_detour = of(shape)
        assert needed(rotate_plan.made((cable,), (facts,))) == []
        assert needed(rotate_plan.made((detour,), (of_detour,))) == []
        assert needed(rotate_plan.changed((cable,), (facts,))) == []
        assert needed(rotate_plan.returned((detour,), (of_detour,))) == []

    def test_the_old_key_goes_after_the_connections_and_before_they_come_again(
        self, shape: str
    ) -> None:
        cable, facts, _, _ = of(shape)
        old = replace(facts, credential=Credential.OTHER)
        plan = rotate_plan.changed((rotation.renewed(cable),), (old,))
        order = [*dict.fromkeys(phases(plan))]
        # Only the end that negotiates has trap policies before the SAs are up.
        routed = [Phase.ROUTE] if cable.begins else []
        assert order == [Phase.UNLOAD, Phase.SECRET, Phase.ADD, *routed]
        assert len([phase for phase in phases(plan) if phase is Phase.UNLOAD]) == len(cable.names)
        assert not any(step.undo for step in plan.steps)
        assert any("psk.next" in line for line in needed(plan))

    def test_only_what_is_down_is_loaded_anew(self, shape: str) -> None:
        cable, facts, _, _ = of(shape)
        assert needed(rotate_plan.reloaded((cable,), (facts,))) == []
        down = made(cable, up=False)
        order = [*dict.fromkeys(phases(rotate_plan.reloaded((cable,), (down,))))]
        assert order[:2] == [Phase.UNLOAD, Phase.SECRET] or order[0] is Phase.UNLOAD
        assert Phase.INITIATE not in order
        assert len(needed(rotate_plan.initiated((cable,), (down,)))) == len(cable.names)
        assert needed(rotate_plan.initiated((cable,), (facts,))) == []

    def test_a_detour_is_removed_whole(self, shape: str) -> None:
        _, _, detour, facts = of(shape)
        lines = needed(rotate_plan.removed((detour,), (facts,)))
        assert lines[0].startswith("ip ")
        assert lines[-1] == f"nft 'delete table {guard.name(detour)}'"

    def test_a_detour_that_is_used_loses_its_rules_first(self, shape: str) -> None:
        _, _, detour, _ = of(shape)
        plan = rotate_plan.removed((detour,), (made(rotation.use(detour)),))
        carried = [rule.to for rule in iproute.moving_rules(detour)]
        assert all(" rule " in line for line in needed(plan)[: len(carried)])
        assert [words[6] for words in rules(plan)][: len(carried)] == carried
        assert not made(detour).overlay.rules - {iproute.table_rule(detour)}


def rules(plan: Plan) -> list[list[str]]:
    """Return the words of the commands for rules, without the version of IP; the network is 6."""
    lines = [line.replace("ip -6 ", "ip ") for line in needed(plan)]
    return [line.split() for line in lines if line.startswith("ip rule")]


def test_the_next_key_takes_the_place_of_the_old_one() -> None:
    cable, facts, _, _ = of("transport vxlan v4")
    assert needed(rotate_plan.promoted((cable, cable), (facts, facts))) == [
        "mv -f -T -- /etc/cablectl/psk.next /etc/cablectl/psk"
    ]


def test_the_guard_lets_both_devices_carry_the_traffic() -> None:
    cable, _, detour, _ = of("transport vxlan v4")
    devices = '{ "rotate-7b343ee2", "vxlan-tunnel" }'
    for each in (cable, detour):
        text = " ".join(guard.load(each))
        assert f"iifname != {devices}" in text
        assert f"oifname != {devices}" in text
    plain = rotation.plain(cable)
    assert "rotate" not in " ".join(guard.load(plain))
    assert not guard.is_intact(plain, guard.made(cable))
