"""Facts of the routing tables, from what iproute2 6.1 prints."""

import json
from typing import Any

import pytest
from msgspec.structs import replace
from pytest_subprocess import FakeProcess

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import OverlayFacts
from cablectl.host import routing
from cablectl.linux.iproute import OldRoute, Rule
from cablectl.model.cable import Cable
from cablectl.model.wishes import Routes
from tests.support.documents import shaped

KERNELS: list[dict[str, Any]] = [
    {"priority": 0, "src": "all", "table": "255"},
    {"priority": 300, "src": "all", "action": "6"},
    {"priority": 32766, "src": "all", "table": "254"},
]
OURS = {"priority": 241, "src": "all", "table": "24141", "protocol": "241"}
ROUTE = {"dst": "10.45.0.0/16", "gateway": "241.18.0.7", "dev": "vxlan-tunnel", "table": "24141"}
KEPT = ("10.45.0.0/16", "241.18.0.7", "")


def facts(
    fp: FakeProcess,
    cable: Cable,
    *,
    own: list[dict[str, Any]] = [],  # noqa: B006 - never changed
    rules: list[dict[str, Any]] = [],  # noqa: B006
    table: list[dict[str, Any]] | str = "",
) -> OverlayFacts:
    """Return the facts of a host with these routes of cablectl's, rules, and routes of the table.

    A text as the table is the error that `ip route` prints.
    """
    family, number = f"-{cable.local_vtep.version}", str(cable.routes.table)
    show = ["ip", "-N", "-j", family, "route", "show", "table"]
    fp.register([*show, "all", "proto", "241"], stdout=json.dumps(own))
    fp.register(["ip", "-N", "-j", family, "rule"], stdout=json.dumps(KERNELS + rules))
    if isinstance(table, str):
        fp.register([*show, number], stdout="[", stderr=table, returncode=2)
    else:
        fp.register([*show, number], stdout=json.dumps(table))
    return routing.overlay_facts(cable, "vxlan-tunnel")


MISSING = "Error: ipv4: FIB table does not exist.\nDump terminated\n"


def test_a_host_without_any(fp: FakeProcess, cable: Cable) -> None:
    assert facts(fp, cable, table=MISSING) == OverlayFacts()


def test_a_blackhole_route_leads_to_no_other_device(fp: FakeProcess) -> None:
    cable = shaped("tunnel vxlan v4")
    stop = {"type": "6", "dst": "244.0.0.0/8", "table": "24141", "protocol": "241"}
    old = {**stop, "table": "7"}
    found = facts(fp, cable, own=[ROUTE, stop, old], rules=[OURS], table=[stop])
    assert (found.blackhole, found.table_shared) == (True, False)
    assert found.old_routes == {OldRoute(7, ("244.0.0.0/8", "blackhole", ""))}


def test_each_file_has_a_blackhole_of_its_own(fp: FakeProcess) -> None:
    """Several files share a table: each has its own underlay, as a rule."""
    cable = shaped("tunnel vxlan v4")
    stop = {"type": "6", "dst": "244.1.0.0/16", "table": "24141", "protocol": "241"}
    way = {"dst": "244.1.0.7", "gateway": "244.1.0.7", "dev": "gre-tunnel", "table": "24141"}
    found = facts(fp, cable, own=[stop, way], rules=[OURS], table=[stop])
    assert (found.blackhole, found.underlay_shared, found.table_shared) == (False, True, True)
    apart = {**way, "dst": "245.1.0.7"}
    found = facts(fp, cable, own=[{**stop, "dst": "244.0.0.0/8"}, apart], rules=[OURS], table=[])
    assert (found.blackhole, found.underlay_shared) == (True, False)


def test_ours_alone(fp: FakeProcess, cable: Cable) -> None:
    found = facts(fp, cable, own=[ROUTE], rules=[OURS], table=[{**ROUTE, "protocol": "241"}])
    assert found == OverlayFacts(routes=frozenset({KEPT}), rules=frozenset({Rule(24141, 241)}))


@pytest.mark.parametrize("shape", ["transport vxlan v4", "transport vxlan v6"])
@pytest.mark.parametrize(
    ("route", "words"),
    [
        (
            {"dst": "default", "gateway": "192.168.2.1", "dev": "eth1", "protocol": "16"},
            "default via 192.168.2.1 dev eth1",
        ),
        ({"dst": "10.0.0.0/8", "dev": "eth1"}, "10.0.0.0/8 dev eth1"),
        ({"type": "6", "dst": "10.9.0.0/16"}, "blackhole 10.9.0.0/16"),
        ({"type": "2", "dst": "10.9.0.1", "dev": "lo"}, "type 2 10.9.0.1 dev lo"),
    ],
)
def test_a_route_of_another_program(
    fp: FakeProcess, shape: str, route: dict[str, str], words: str
) -> None:
    found = facts(fp, shaped(shape), table=[{**ROUTE, "protocol": "241"}, route])
    assert found.foreign_routes == (words,)


def test_rules_for_packets_to_a_network(fp: FakeProcess, cable: Cable) -> None:
    listed: list[dict[str, Any]] = [{"dst": "10.45.0.0", "dstlen": 16}, {"dst": "241.18.0.7"}]
    found = facts(fp, cable, rules=[{**OURS, **each} for each in listed], table=[])
    assert found == OverlayFacts(
        rules=frozenset(Rule(24141, 241, to) for to in ("10.45.0.0/16", "241.18.0.7/32"))
    )


def test_few_of_many_routes_are_named(fp: FakeProcess, cable: Cable) -> None:
    many = [{"dst": f"10.{i}.0.0/16", "dev": "eth1"} for i in range(200)]
    assert len(facts(fp, cable, table=many).foreign_routes) == routing.MAX_NAMED


@pytest.mark.parametrize("shape", ["transport vxlan v4", "transport vxlan v6"])
@pytest.mark.parametrize(
    ("rule", "words"),
    [
        (
            {"priority": 9, "src": "192.168.2.254", "table": "24141"},
            "9: from 192.168.2.254 lookup 24141",
        ),
        (
            {"priority": 241, "src": "all", "fwmark": "0x10", "iif": "eth1", "table": "7"},
            "241: from all iif eth1 fwmark 0x10 lookup 7",
        ),
        (
            {"priority": 241, "src": "10.0.0.0", "srclen": 8, "dst": "10.1.0.0", "dstlen": 16},
            "241: from 10.0.0.0/8 to 10.1.0.0/16",
        ),
        (
            {"priority": 241, "src": "all", "dst": "10.1.0.1", "action": "6"},
            "241: from all to 10.1.0.1",
        ),
    ],
)
def test_a_rule_of_another_program(
    fp: FakeProcess, shape: str, rule: dict[str, Any], words: str
) -> None:
    found = facts(fp, shaped(shape), rules=[OURS, rule], table=[])
    assert found.foreign_rules == (words,)
    assert Rule(24141, 241) in found.rules


def test_what_an_earlier_cablectl_left(fp: FakeProcess, cable: Cable) -> None:
    old = {**ROUTE, "table": "100", "prefsrc": "10.44.0.1"}
    rule = {"priority": 100, "src": "all", "table": "100", "protocol": "241"}
    found = facts(fp, cable, own=[old], rules=[rule], table=MISSING)
    route = ("10.45.0.0/16", "241.18.0.7", "10.44.0.1")
    assert found == OverlayFacts(
        old_routes=frozenset({OldRoute(100, route)}), old_rules=frozenset({Rule(100, 100)})
    )


def test_what_another_device_needs_is_kept(fp: FakeProcess, cable: Cable) -> None:
    """The other device may be one of a file with another table, or with the same table."""
    others = [{**ROUTE, "dev": "gre-tunnel", "table": table} for table in ("7", "24141")]
    rules = [{**OURS, "table": "7"}, {**OURS, "priority": 9}, OURS]
    found = facts(fp, cable, own=others, rules=rules, table=[])
    assert found == OverlayFacts(rules=frozenset({Rule(24141, 241)}), table_shared=True)


def test_numbers_of_the_file(fp: FakeProcess, cable: Cable) -> None:
    other = replace(cable, routes=Routes(table=7, priority=9))
    found = facts(fp, other, own=[ROUTE], rules=[OURS], table=[])
    assert not found.rules
    assert found.routes == frozenset()
    assert found.old_routes == {OldRoute(24141, KEPT)}
    assert found.old_rules == {Rule(24141, 241)}


def test_a_table_that_can_not_be_listed(fp: FakeProcess, cable: Cable) -> None:
    with pytest.raises(HostNotReadyError, match="routes of table 24141 can't be listed") as caught:
        facts(fp, cable, table="Operation not permitted")
    assert caught.value.details == ("Operation not permitted",)


def test_tables_by_device(fp: FakeProcess) -> None:
    show = ["ip", "-N", "-j", "-4", "route", "show", "table", "all", "proto", "241"]
    own = [{**ROUTE, "table": "100"}, {**ROUTE, "dev": "gre-tunnel"}, {"type": "6", "dst": "x"}]
    fp.register(show, stdout=json.dumps(own))
    rules = [{**OURS, "table": "100", "priority": 9}, {"priority": 8, "src": "all", "table": "100"}]
    fp.register(["ip", "-N", "-j", "-4", "rule"], stdout=json.dumps(KERNELS + rules))
    assert routing.routes_by_device(4) == {
        "vxlan-tunnel": Routes(table=100, priority=9),
        "gre-tunnel": Routes(table=24141),
    }
