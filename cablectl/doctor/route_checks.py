"""Checks of the routing table in which the overlay's routes are."""

from collections.abc import Iterator

from cablectl.doctor.evidence import CableEvidence
from cablectl.doctor.finding import Finding, fail, ok, warn
from cablectl.facts import table
from cablectl.model.cable import Cable


def check_table(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that no other program uses the table, or the priority of the rule."""
    if not (cable.overlay and evidence.facts):
        return
    present, wanted = evidence.facts.overlay, cable.routes
    found = False
    for problem, remedy in table.in_the_way(cable, present):
        found = True
        yield fail("table", problem, remedy)
    for number in table.outdated(present):
        found = True
        yield warn(
            "table",
            f"an earlier cablectl or file left routes or a rule of table {number}",
            f"sudo cablectl connect {evidence.files}",
        )
    if not found:
        yield ok("table", f"{wanted.table}, with rule priority {wanted.priority}: only cablectl's")
