"""Evidence from this host and from the peer's ports: read-only, and whatever can't be read is left.

Three things are sent: an IKE_SA_INIT to two ports of the peer, and pings of its VTEP once both SAs
are up.
"""

from cablectl.cable import Cable
from cablectl.doctor import Finding, checks
from cablectl.doctor.host import needed_modules
from cablectl.gather.ends import read as read_ends
from cablectl.gather.host import read as read_host


def findings(cable: Cable | None, files: str) -> tuple[Finding, ...]:
    """Return what there is to find of this host, and of a cable whose files are called so."""
    seen = read_host(needed_modules(cable))
    if cable is None:
        return checks.of_host(seen)
    return checks.of_cable(seen, cable, read_ends(cable, files, seen.links))
