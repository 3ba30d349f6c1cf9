"""Checks of the cable itself: its key, what the peer said, what of it stands, and what passes."""

import re
from collections.abc import Iterator

from cablectl.doctor.evidence import Ends
from cablectl.doctor.finding import Finding, FindingState, fail, ok, warn
from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Credential, Facts
from cablectl.libreswan import secrets_file
from cablectl.libreswan.refusal import parse_refusal
from cablectl.linux import esp_offload
from cablectl.linux.esp_offload import OffloadReport
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode
from cablectl.plan import connect_plan
from cablectl.status.report import CableState, GuardState, Verdict

_BEGINNING = "added IKEv2 connection|established Child SA"  # of another attempt, in pluto's log


def key(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether the pre-shared key can be read by those who need it, and by nobody else."""
    if ends.key is None:
        return
    for problem, remedy in ends.key.problems:
        yield fail("key", problem, remedy)
    for warning in ends.key.warnings:
        what, _, remedy = warning.rpartition(": ")
        yield warn("key", what, remedy)
    if ends.facts and ends.facts.credential is Credential.OTHER:
        yield fail(
            "key", f"{secrets_file.path(cable)} holds another key than that", connect_plan.AGAIN
        )
    elif not (ends.key.problems or ends.key.warnings):
        yield ok("key", ends.key.place)


def service(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether the name that the file has for the overlay's port is one: only if it has a name."""
    wanted = cable.overlay
    if wanted is None or not isinstance(wanted.port, str):
        return
    port = wanted.port_number
    if ends.service_port == port:
        yield ok("service", f"{wanted.port} is UDP {port}")
    else:
        yield fail(
            "service",
            f"/etc/services doesn't call UDP {port} {wanted.port}, and whack refuses the name",
            f"write port: {port}",
        )


def negotiation(ends: Ends) -> Iterator[Finding]:
    """Whether pluto logged a refusal in the last attempt of a connection that isn't up.

    Of one that isn't loaded any more the cause may be mended since.
    """
    found: dict[str, Finding] = {}
    for name, logged in ends.logged.items():
        refusal = parse_refusal(_last_attempt(logged))
        connections = ends.facts.connections if ends.facts else {}
        if refusal and not (name in connections and connections[name].up):
            state = FindingState.FAIL if name in connections else FindingState.WARN
            told = f"{refusal.reason}: {refusal.line}"
            found.setdefault(refusal.reason, Finding("negotiation", state, told, refusal.remedy))
    yield from found.values()
    if ends.logged and not found:
        yield ok("negotiation", "pluto's log has no refusal in the last attempt")


def _last_attempt(logged: str) -> str:
    """Return what pluto said of a connection since it was loaded, or came up, the last time."""
    lines = logged.splitlines()
    begins = [i for i, line in enumerate(lines) if re.search(_BEGINNING, line)]
    return "\n".join(lines[begins[-1] :] if begins else lines)


def state(cable: Cable, ends: Ends, seen: CableState | None) -> Iterator[Finding]:
    """Whether all of the cable is there, or what of it is missing."""
    mend = f"sudo cablectl connect {ends.files}"
    if seen is None:
        yield warn("cable", f"it can't be seen: {ends.unread}", "mend that first")
    elif seen.verdict is Verdict.UP:
        yield ok("cable", f"all of it is there: {len(cable.connections)} connections up")
    elif ends.facts and not present(cable, ends.facts):
        yield warn("cable", "nothing of it is here, as after a connect that failed", mend)
    else:
        for reason in seen.reasons:
            yield fail(
                "cable", reason, connect_plan.AGAIN if seen.verdict is Verdict.FOREIGN else mend
            )


def present(cable: Cable, facts: Facts) -> bool:
    """Tell whether anything of the cable is there."""
    return bool(facts.loaded(cable) or facts.overlay.link or facts.guard)


def guard(ends: Ends, seen: CableState | None) -> Iterator[Finding]:
    """Whether the guard dropped packets: each one had no IPsec."""
    there = seen.guard if seen else None
    if there is None or not (ends.facts and ends.facts.guard):
        return
    if there.dropped_in or there.dropped_out:
        yield warn("guard", _dropped(there), "see who sends it: tcpdump on the overlay's port")
    else:
        yield ok("guard", f"{there.table} has dropped nothing")


def _dropped(there: GuardState) -> str:
    into = f"{there.dropped_in} packets that came in clear text"
    out = f"{there.dropped_out} that would have left in it"
    return f"{there.table} has dropped {into}, and {out}"


def offload(report: OffloadReport | None) -> Iterator[Finding]:
    """Whether the NIC does ESP, and as the file asks."""
    if report is None:
        return
    why = f": {'; '.join(report.reasons)}" if report.reasons else ""
    if report.asked in esp_offload.NEEDED and report.verdict not in ("crypto", "packet", "none"):
        fix = "see `cablectl offload`; offload: auto does without"
        yield fail("offload", f"the file has {report.asked}, the SAs are in software", fix)
    else:
        where = "no SA yet" if report.verdict == "none" else f"SAs are in {report.verdict}"
        yield ok("offload", f"{where}{why}")


def traffic(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether the peer's VTEP answers, and if not, how far packets came."""
    pings, wanted, peer = ends.pings, cable.overlay, cable.remote.hostname
    if pings is None or wanted is None:
        return
    vtep = cable.remote_vtep.ip
    if pings.answered:
        yield ok("traffic", f"{vtep} answers {pings.answered} pings of {pings.sent}")
        return
    silent = f"{vtep} answers no ping" + (f" ({pings.error})" if pings.error else "")
    if cable.mode is Mode.NONE:
        fix = f"is the overlay up on {peer}, with the same VNI, and its UDP port let through?"
        yield fail("traffic", silent, fix)
    elif not pings.bytes_out:
        see = f"see `ip route get {vtep}` and the FDB and neighbours of {wanted.device}"
        yield fail("traffic", f"{silent}, and the SAs carried nothing out meanwhile", see)
    elif pings.bytes_in or (ends.received == 0 and came_in(cable, ends)):
        yield fail(
            "traffic",
            f"{silent}; packets come in by the SAs, and {wanted.device} has received"
            f" {ends.received}",
            f"has {peer} the same VNI, or key, in its file? Does a firewall here drop it?",
        )
    else:
        yield fail(
            "traffic",
            f"{silent}; the SAs carried {pings.bytes_out} bytes out, and nothing came back",
            f"is ESP dropped on the way? Is the overlay up on {peer}, with the same VNI or key,"
            " and does it answer pings?",
        )


def came_in(cable: Cable, ends: Ends) -> int:
    """Return how many bytes the cable's SAs brought in."""
    loaded = ends.facts.loaded(cable).values() if ends.facts else ()
    return sum(sa.bytes_in for each in loaded for sa in each.child_sas)


def rest(cable: Cable, ends: Ends) -> Iterator[Finding]:
    """Whether connect would refuse, for a cause that has no check of its own."""
    if ends.facts is None:
        return
    try:
        connect_plan.plan((cable,), (ends.facts,), narrowed=True)
    except CablectlError as error:
        yield fail("connect", f"it would refuse: {error.message}", error.hint)
    else:
        yield ok("connect", "it would refuse nothing here")
