"""The table of the routes: what isn't cablectl's own is refused, and old routes are moved."""

import pytest
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Facts, OverlayFacts, connected
from cablectl.linux.iproute import OldRoute, Rule
from cablectl.model.cable import Cable
from cablectl.model.wishes import Routes
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Plan
from tests.support.documents import shaped
from tests.support.meshes import CABLES, there
from tests.support.plans import BLANK, needed

EARLIER = Routes(table=100, priority=100)
OLD = "ip route delete 10.45.0.0/16 via 241.18.0.7 dev vxlan-tunnel table 100 metric 100 proto 241"


def upgraded(facts: Facts) -> Facts:
    """Return the facts after an upgrade: the routes of these facts are in table 100."""
    present = facts.overlay
    old = frozenset(OldRoute(100, route) for route in present.routes)
    overlay = replace(
        present,
        routes=frozenset(),
        rules=frozenset(),
        old_routes=old,
        old_rules=frozenset({Rule(100, 100)}),
    )
    return replace(facts, overlay=overlay)


@pytest.mark.parametrize("shape", ["transport vxlan v4", "transport gre v6", "none vxlan v4"])
@pytest.mark.parametrize(
    ("foreign", "message"),
    [
        (
            OverlayFacts(foreign_routes=("default via 192.168.2.1 dev eth1",)),
            "table 24141 has a route that cablectl didn't make: default via 192.168.2.1 dev eth1",
        ),
        (
            OverlayFacts(foreign_rules=("9: from all lookup 24141",)),
            "a rule that cablectl didn't make has table 24141 or priority 241: 9: from all",
        ),
    ],
)
def test_refused(shape: str, foreign: OverlayFacts, message: str) -> None:
    cable = shaped(shape)
    with pytest.raises(HostNotReadyError, match=message) as caught:
        connect_plan.plan((cable,), (replace(BLANK, overlay=foreign),))
    assert "routes.table" in caught.value.hint


def test_teardown_does_not_care(cable: Cable, made: Facts) -> None:
    mixed = replace(made.overlay, foreign_routes=("default",), foreign_rules=("9: from all",))
    removed = needed(teardown_plan.plan((cable,), (replace(made, overlay=mixed),)))
    assert removed == needed(teardown_plan.plan((cable,), (made,)))


def test_numbers_of_the_file(cable: Cable) -> None:
    other = replace(cable, routes=Routes(table=7, priority=9))
    lines = needed(connect_plan.plan((other,), (BLANK,)))
    assert any(" table 7 metric 100 proto 241" in line for line in lines)
    assert lines[-1] == "ip rule add from all lookup 7 pref 9 protocol 241"


def test_in_tunnel_mode_nothing_leaves_by_the_hosts_own_routes() -> None:
    """The device sends as soon as it is up, and its routes can't be there before."""
    cable = shaped("tunnel geneve v6")
    lines = needed(connect_plan.plan((cable,), (BLANK,)))
    stop = "ip route add blackhole fdca:b1e1::/32 table 24141 metric 100 proto 241"
    up = lines.index("ip link set dev geneve-tunnel up")
    assert lines[up - 2 : up] == [
        stop,
        "ip -6 rule add from all lookup 24141 pref 241 protocol 241",
    ]
    gone = needed(teardown_plan.plan((cable,), (connected(cable, BLANK, 1300),)))
    down = gone.index("ip link delete dev geneve-tunnel")
    assert gone[down + 1 : down + 3] == [
        "ip -6 rule delete from all lookup 24141 pref 241 protocol 241",
        stop.replace("add", "delete"),
    ]


def rules_and_routes(plan: Plan) -> list[str]:
    return [line for line in needed(plan) if line.startswith(("ip rule", "ip -6 rule", "ip route"))]


def test_old_routes_are_removed_when_the_new_ones_work(cable: Cable, made: Facts) -> None:
    plan = connect_plan.plan((cable,), (upgraded(made),))
    assert [line.split(" via ")[0] for line in needed(plan)] == [
        "ip route add 10.45.0.0/16",
        "ip rule add from all lookup 24141 pref 241 protocol 241",
        "ip rule delete from all lookup 100 pref 100 protocol 241",
        "ip route delete 10.45.0.0/16",
    ]
    assert needed(plan)[-1] == OLD
    assert [step.undo[0][1:3] for step in plan.needed] == [
        ("route", "delete"),
        ("rule", "delete"),
        ("rule", "add"),
        ("route", "add"),
    ]


def test_teardown_removes_old_routes(cable: Cable, made: Facts) -> None:
    assert rules_and_routes(teardown_plan.plan((cable,), (upgraded(made),))) == [
        "ip rule delete from all lookup 100 pref 100 protocol 241",
        OLD,
    ]


def test_ipv6() -> None:
    cable = shaped("transport gre v6")
    made = connected(cable, BLANK, 1300)
    lines = rules_and_routes(connect_plan.plan((cable,), (upgraded(made),)))
    assert "ip -6 rule delete from all lookup 100 pref 100 protocol 241" in lines


def test_a_rule_that_other_devices_need_stays(cable: Cable, made: Facts) -> None:
    shared = replace(made, overlay=replace(made.overlay, table_shared=True))
    plan = teardown_plan.plan((cable,), (shared,))
    assert not [line for line in needed(plan) if "rule" in line]
    (kept,) = (step for step in plan.steps if step.argv[1] == "rule")
    assert kept.not_needed == "routes of other devices need it"


class TestAMesh:
    def test_one_peer_leaves_the_routes_of_the_others(self) -> None:
        """Their old routes still need the old rule."""
        facts = tuple(map(upgraded, there(CABLES, CABLES)))
        whole = frozenset().union(*(each.overlay.old_routes for each in facts))
        facts = tuple(
            replace(each, overlay=replace(each.overlay, old_routes=whole)) for each in facts
        )
        narrow = rules_and_routes(connect_plan.plan(CABLES[:1], facts[:1], narrowed=True))
        assert [line for line in narrow if "delete" in line] == [OLD]
        lines = rules_and_routes(connect_plan.plan(CABLES, facts))
        gone = [line for line in lines if "delete" in line]
        assert gone[0] == "ip rule delete from all lookup 100 pref 100 protocol 241"
        assert len(gone) == 1 + len(whole)
