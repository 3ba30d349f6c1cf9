"""A connect's plan becomes what a watch does of it at once, without waiting for a peer."""

from collections.abc import Container, Mapping, Set

from msgspec.structs import replace

from cablectl.facts.host_facts import Facts, Pluto
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.plan.steps import Phase, Plan, Step

_WITHOUT_PLUTO = (Phase.GUARD, Phase.MSS)
_WITH_LISTEN = (Phase.UNLOAD, Phase.SECRET, Phase.ADD)
_WITH_CHILD_SAS = (Phase.RETIRE, Phase.OVERLAY, Phase.UP)


def up(cables: tuple[Cable, ...], facts: tuple[Facts, ...]) -> frozenset[str]:
    """Return the ids of the cables whose connections all have a Child SA."""
    return frozenset(
        cable.id
        for cable, of_cable in zip(cables, facts, strict=True)
        if all(of_cable.is_up(name) for name in cable.names)
    )


def plan(
    whole: Plan,
    ready: Set[str],
    left_alone: Mapping[str, str],
    only_guard: str = "",
    retired: Container[tuple[str, Argv]] = (),
) -> Plan:
    """Return a connect's plan without the steps that have to wait, each with its reason.

    `ready` has the ids of the cables that get their overlay. `left_alone` has the ids of the cables
    that nothing is done for, each with the reason. `only_guard` is a reason why nothing but the
    guard is mended. `retired` are the commands, with their cables' ids, that have told pluto to
    delete Child SAs. A watch doesn't start a pluto that was stopped, and doesn't ask again while
    pluto negotiates.
    """
    running = whole.facts[0].pluto is Pluto.RUNNING
    loaded_now = {word for step in whole.needed if step.phase is Phase.ADD for word in step.argv}
    listens = any(
        step.cable and step.cable not in left_alone and step.phase in _WITH_LISTEN
        for step in whole.needed
    )

    def reason(step: Step) -> str:
        if step.not_needed or step.cable in left_alone:
            return step.not_needed or left_alone[step.cable]
        if only_guard and step.phase is not Phase.GUARD:
            return only_guard
        if step.phase is Phase.SECRET and not (step.cable or listens):
            return "only a cable that is left alone needs it"
        if not running and step.phase not in _WITHOUT_PLUTO:
            return "pluto isn't running"
        if step.phase is Phase.RETIRE and (step.cable, step.argv) in retired:
            return "pluto deletes it"
        if step.phase is Phase.INITIATE and step.argv[-1] not in loaded_now:
            return "pluto negotiates"
        is_ready = step.cable in ready if step.cable else bool(ready)
        if step.phase in _WITH_CHILD_SAS and not is_ready:
            return "waits for the Child SAs"
        return ""

    return replace(
        whole, steps=tuple(replace(step, not_needed=reason(step)) for step in whole.steps)
    )
