"""Evidence from this host and from the peer's ports: read-only, and whatever can't be read is left.

Three things are sent: an IKE_SA_INIT to two ports of the peer, and pings of its VTEP once both SAs
are up.
"""

from cablectl.doctor import checks
from cablectl.doctor.collect.ends import collect_ends
from cablectl.doctor.collect.own_host import collect_host
from cablectl.doctor.finding import Finding
from cablectl.doctor.host_checks import needed_modules
from cablectl.model.cable import Cable


def findings(cable: Cable | None, files: str) -> tuple[Finding, ...]:
    """Return what there is to find of this host, and of a cable whose files are called so."""
    seen = collect_host(needed_modules(cable))
    if cable is None:
        return checks.of_host(seen)
    return checks.of_cable(seen, cable, collect_ends(cable, files, seen.links))
