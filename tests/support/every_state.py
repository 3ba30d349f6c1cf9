"""A report with cables in every state."""

from msgspec.structs import replace

from cablectl.status import state
from cablectl.status.health import with_health
from cablectl.status.report import RepairState, StatusReport, Verdict
from tests.support.alive import BLANK, NOW, alive, report
from tests.support.documents import SHAPES, shaped
from tests.support.faults import FAULTS, OUTSIDE
from tests.support.health import HEALTHS
from tests.support.standing import with_ends

ODD = 'submariner-cable-"x\\y"'


def every_state() -> StatusReport:
    """Return a report with a cable of every shape and fault, and one that is hardly known."""
    cable = shaped("transport vxlan v4")
    faulty = [change(cable, alive(cable)) for change, _ in (FAULTS | OUTSIDE).values()]
    states = [state.of(each, alive(each), NOW) for each in map(shaped, SHAPES)]
    ending = with_ends(alive(cable), (("gateway", "CN=west", 6), ("authority", "CN=a", 29)), NOW)
    states += [state.of(cable, facts, NOW) for facts in (BLANK, ending, *faulty)]
    states += [with_health(state.of(cable, alive(cable), NOW), health) for health in HEALTHS]
    watched = replace(states[0], repairs=RepairState(counts={"guard": 1, "reload": 0}, last=NOW))
    found = report(watched, *states[1:], state.unknown(ODD, Verdict.FOREIGN, "why"))
    return replace(found, xfrm_errors={"XfrmInNoStates": 3, "XfrmInTmplMismatch": 0})
