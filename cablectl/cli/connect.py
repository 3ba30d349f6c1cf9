"""`cablectl connect`: bring a cable up."""

from collections.abc import Callable
from typing import Annotated

import typer

from cablectl.cli import options, running, source
from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Facts
from cablectl.host import reading
from cablectl.model.rotation import RotationPhase
from cablectl.plan import connect_plan
from cablectl.plan.steps import WAIT_LIMIT, Action, Plan


def connect(
    files: options.Files,
    local: options.Local = None,
    peer: options.Peers = None,
    timeout: Annotated[
        int,
        options.seconds_to_wait("the Child SAs"),
    ] = WAIT_LIMIT,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Don't wait for the Child SAs.")
    ] = False,
    dry_run: options.DryRun = False,
    format: options.Outcome = options.OutcomeFormat.TEXT,  # noqa: A002
) -> None:
    """Bring the cables up: IPsec first, then the overlay.

    Run connect on every gateway, with the same file. If a cable fails, connect rolls back what it
    did for that cable. What is in place already stays. At the end each peer has to answer an echo
    through its cable, unless the file says health: off.
    """
    running.refuse_json_of_a_dry_run(format, dry_run=dry_run)
    chosen = source.chosen(files, local, peer, trusted=not dry_run)
    if dry_run:
        running.show(_plan(chosen, running.dry_facts(chosen, Action.CONNECT), not no_wait, timeout))
    else:
        make_plan = planner(chosen, wait=not no_wait, limit=timeout)
        running.apply(chosen, make_plan, timeout, format, prove=not no_wait)


def planner(chosen: source.Chosen, *, wait: bool, limit: float) -> Callable[[], Plan]:
    """Return what makes the plan from the host's state, with a `limit` in seconds for Child SAs.

    HostNotReadyError while the cables are moved to another key.
    """
    from cablectl.host import packet_filters, rotation_state

    for standing in rotation_state.standings(chosen.cables):
        if standing.phase in (RotationPhase.MOVED, RotationPhase.CHANGED):
            raise HostNotReadyError(
                f"a rotation of the key is under way: {standing.phase.words}",
                hint="cablectl rotate FILE",
            )

    def make_plan() -> Plan:
        facts = packet_filters.with_nat(chosen.cables, reading.facts_of(chosen.cables))
        return _plan(chosen, facts, wait, limit)

    return make_plan


def _plan(chosen: source.Chosen, facts: tuple[Facts, ...], wait: bool, limit: float) -> Plan:
    return connect_plan.plan(chosen.cables, facts, wait=wait, limit=limit, narrowed=chosen.narrowed)
