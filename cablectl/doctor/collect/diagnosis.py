"""Collects all evidence and runs the checks.

Collecting is read-only and leaves out what can't be read. It sends an IKE_SA_INIT to two ports of
the peer, and pings the peer's VTEP if all SAs are up.
"""

from cablectl.doctor import checks
from cablectl.doctor.collect.ends import collect_ends
from cablectl.doctor.collect.own_host import collect_host
from cablectl.doctor.finding import Finding
from cablectl.doctor.host_checks import needed_modules
from cablectl.model.cable import Cable


def findings(cable: Cable | None, files: str) -> tuple[Finding, ...]:
    """Return the findings about this host, and about a cable; `files` names the cable's files."""
    host = collect_host(needed_modules(cable))
    if cable is None:
        return checks.check_host(host)
    return checks.check_cable(host, cable, collect_ends(cable, files, host.links))
