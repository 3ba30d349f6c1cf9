"""Facts of the routing tables: cablectl's routes and rules, and what other programs have there."""

from collections.abc import Iterator
from ipaddress import ip_network
from itertools import islice
from typing import Any

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import OverlayFacts
from cablectl.host import probe
from cablectl.linux import iproute
from cablectl.linux.iproute import OldRoute, Route, Rule
from cablectl.model.cable import Cable
from cablectl.model.wishes import Routes

Listed = dict[str, Any]  # a route or a rule as iproute2 lists it
_NO_TABLE = "table does not exist"  # the kernel's words, for a table without routes
_TYPES = {"6": "blackhole", "7": "unreachable", "8": "prohibit"}  # linux/rtnetlink.h
MAX_NAMED = 3  # routes of other programs that an error names; a table may have a million


def overlay_facts(cable: Cable, device: str) -> OverlayFacts:
    """Return the routes of the cable's device and the rules, without the device itself."""
    version, wanted = cable.local_vtep.version, cable.routes
    routes, rules = _own_routes(version), _rules(version)
    own = [(_table(route), _route(route, cable)) for route in routes if _is_via(route, device)]
    others = [route for route in routes if route.get("dev") != device]
    elsewhere = {_table(route) for route in others if not _is_blackhole(route)}
    blocked = iproute.blackhole(cable)
    # Traces don't show the network: then it is any.
    refused = {
        _table(route)
        for route in others
        if _is_blackhole(route) and (cable.traced or route["dst"] == blocked[0])
    }
    own += [(table, blocked) for table in refused - elsewhere - {wanted.table}]
    own_rules = {_rule(rule, cable) for rule in rules if _is_ours(rule)}
    as_wanted = {rule for rule in own_rules if rule[:2] == (wanted.table, wanted.priority)}
    return OverlayFacts(
        routes=frozenset(route for table, route in own if table == wanted.table),
        rules=frozenset(as_wanted),
        blackhole=wanted.table in refused,
        underlay_shared=any(_is_to_underlay(route, cable) for route in others),
        table_shared=wanted.table in elsewhere,
        foreign_routes=tuple(_foreign_routes(version, wanted)),
        foreign_rules=tuple(_foreign_rules(rules, wanted)),
        old_routes=frozenset(
            OldRoute(table, route) for table, route in own if table != wanted.table
        ),
        old_rules=frozenset(old for old in own_rules - as_wanted if old.table not in elsewhere),
    )


def routes_by_device(version: int) -> dict[str, Routes]:
    """Return table and priority by the device to which cablectl's routes lead."""
    priorities = {_table(rule): rule["priority"] for rule in _rules(version) if _is_ours(rule)}
    found = {}
    for route in _own_routes(version):
        table = _table(route)
        if "dev" in route and table not in (0, None):
            priority = priorities.get(table, Routes().priority)
            found[route["dev"]] = Routes(table=table, priority=priority)
    return found


def _own_routes(version: int) -> list[Listed]:
    # `ip route` fails for a table that doesn't exist, but not for "all".
    own: list[Listed] = probe.json(
        *("ip", "-N", "-j", f"-{version}", "route", "show"),
        *("table", "all", "proto", iproute.PROTOCOL),
    )
    return own


def _rules(version: int) -> list[Listed]:
    rules: list[Listed] = probe.json("ip", "-N", "-j", f"-{version}", "rule")
    return rules


def _is_ours(entry: Listed) -> bool:
    return entry.get("protocol") == iproute.PROTOCOL


def _is_via(route: Listed, device: str) -> bool:
    return "gateway" in route and route.get("dev") == device


def _is_blackhole(route: Listed) -> bool:
    return _TYPES.get(str(route.get("type", ""))) == iproute.BLACKHOLE


def _is_to_underlay(route: Listed, cable: Cable) -> bool:
    """Tell whether a device's route leads to an address of the cable's underlay."""
    elsewhere = "dev" not in route or _table(route) != cable.routes.table
    if elsewhere or _is_blackhole(route) or route["dst"] == "default":
        return False
    network = ip_network(route["dst"])
    return network.version == cable.underlay_network.version and network.subnet_of(
        cable.underlay_network  # type: ignore[arg-type]
    )


def _table(entry: Listed) -> int:
    """Return the table's number; without a table, an entry is of main or leads to none."""
    table = str(entry.get("table", 0))
    return int(table) if table.isdecimal() else 0


def _route(route: Listed, cable: Cable) -> Route:
    whole = f"/{cable.local_vtep.max_prefixlen}"
    subnet = route["dst"] if "/" in route["dst"] else f"{route['dst']}{whole}"
    return subnet, route["gateway"], route.get("prefsrc", "")


def _rule(rule: Listed, cable: Cable) -> Rule:
    length = rule.get("dstlen", cable.local_vtep.max_prefixlen)
    to = f"{rule['dst']}/{length}" if "dst" in rule else ""
    return Rule(_table(rule), rule["priority"], to)


def _foreign_routes(version: int, wanted: Routes) -> Iterator[str]:
    listed = probe.run(
        *("ip", "-N", "-j", f"-{version}", "route", "show", "table", str(wanted.table))
    )
    if listed.returncode != 0:
        if _NO_TABLE in listed.stderr:
            return
        raise HostNotReadyError(
            f"the routes of table {wanted.table} can't be listed",
            details=listed.stderr.splitlines(),
        )
    foreign = (route for route in probe.decoded(listed.stdout) if not _is_ours(route))
    yield from map(_in_words, islice(foreign, MAX_NAMED))


def _in_words(route: Listed) -> str:
    """Return a route as `ip route` prints it, as far as that names the route."""
    kind = str(route.get("type", ""))
    words = [_TYPES.get(kind, f"type {kind}")] if kind else []
    words.append(route["dst"])
    for word, key in (("via", "gateway"), ("dev", "dev")):
        words += [word, route[key]] if key in route else []
    return " ".join(words)


def _foreign_rules(rules: list[Listed], wanted: Routes) -> Iterator[str]:
    for rule in rules:
        same = _table(rule) == wanted.table or rule["priority"] == wanted.priority
        if same and not _is_ours(rule):
            yield _rule_in_words(rule)


def _rule_in_words(rule: Listed) -> str:
    """Return a rule as `ip rule` prints it, as far as that names the rule."""
    words = [f"{rule['priority']}:", "from", rule["src"]]
    words[2] += f"/{rule['srclen']}" if "srclen" in rule else ""
    if "dst" in rule:
        words += ["to", f"{rule['dst']}/{rule['dstlen']}" if "dstlen" in rule else rule["dst"]]
    words += [f"{key} {rule[key]}" for key in ("iif", "oif", "fwmark") if key in rule]
    words += ["lookup", str(rule["table"])] if "table" in rule else []
    return " ".join(words)
