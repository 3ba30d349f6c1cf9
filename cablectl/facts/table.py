"""Finds what other programs have in the cable's routing table, or at the priority of its rule.

The rule applies to every packet of the host, so it would also apply the table's other routes to
every packet. Another rule with the priority would make the order of the two rules a matter of luck.
"""

from collections.abc import Iterator

from cablectl.facts.host_facts import OverlayFacts
from cablectl.model.cable import Cable


def in_the_way(cable: Cable, present: OverlayFacts) -> Iterator[tuple[str, str]]:
    """Yield what isn't cablectl's own, each with a remedy."""
    table, priority = cable.routes.table, cable.routes.priority
    for route in present.foreign_routes:
        yield (
            f"table {table} has a route that cablectl didn't make: {route}",
            "write the number of a table without routes in routes.table of the file",
        )
    for rule in present.foreign_rules:
        yield (
            f"a rule that cablectl didn't make has table {table} or priority {priority}: {rule}",
            "write numbers that `ip rule` doesn't show in routes.table and routes.priority of the"
            " file",
        )


def outdated(present: OverlayFacts) -> list[int]:
    """Return the tables in which an earlier cablectl or file left routes or a rule."""
    tables = {route.table for route in present.old_routes}
    return sorted(tables | {rule.table for rule in present.old_rules})
