"""Checks of the cable itself: its key, its negotiation, its state and its traffic."""

import re
import shlex
from collections.abc import Iterator

from cablectl.doctor.evidence import CableEvidence, HostEvidence
from cablectl.doctor.finding import Finding, FindingState, fail, ok, warn
from cablectl.errors import CablectlError
from cablectl.facts import orientation, table
from cablectl.facts.expiry import Role, Urgency
from cablectl.facts.host_facts import Credential, Facts
from cablectl.libreswan import pluto_commands, secrets_file, whack
from cablectl.libreswan.refusal import parse_refusal
from cablectl.linux import esp_offload
from cablectl.linux.esp_offload import OffloadReport
from cablectl.linux.sockets import PLUTO
from cablectl.model.cable import Cable
from cablectl.model.rotation import RotationPhase
from cablectl.model.wishes import Mode
from cablectl.model.x509 import Auth
from cablectl.plan import connect_plan
from cablectl.status.report import CableState, GuardState, Verdict

# In pluto's log: the connection is added, becomes oriented, or comes up. 4.0 to 4.15 and 5.0 print
# `added IKEv2 connection`; 5.x prints `unoriented`, and 5.4 `oriented` as well.
_ATTEMPT_BEGINS = (
    r"added (?:unoriented )?IKEv2 connection|(?<!un)oriented IKEv2 connection"
    r"|established Child SA|IPsec SA established"  # the latter up to 4.4
)
_BEFORE_ADDED = "interface search skipped"  # pluto prints this reason before `added unoriented`


def check_key(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that those who need the pre-shared key can read it, and nobody else."""
    key = evidence.key
    if key is None:
        return
    for problem, remedy in key.problems:
        yield fail("key", problem, remedy)
    for warning in key.warnings:
        problem, _, remedy = warning.rpartition(": ")
        yield warn("key", problem, remedy)
    others = (Credential.OTHER, Credential.OTHER_PPK)
    if evidence.facts and evidence.facts.credential in others:
        path = secrets_file.path(cable)
        keys = "the keys of ipsec.psk and ipsec.ppk" if cable.ppk else "the key of ipsec.psk"
        if cable.ipsec.auth is Auth.CERT:
            keys = "the certificate of ipsec.cert"
        yield fail("key", f"{path} doesn't hold {keys}", connect_plan.AGAIN)
    elif not (key.problems or key.warnings):
        yield ok("key", key.place)


def check_certificates(host: HostEvidence, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that no certificate ends soon; `check_key` tells which one is expired."""
    for expiry in evidence.facts.expiries if evidence.facts else ():
        told = expiry.in_words(host.time)
        match expiry.urgency(host.time):
            case Urgency.NONE:
                yield ok("certificate", told)
            case Urgency.SOON | Urgency.URGENT:
                what = "" if expiry.role is Role.GATEWAY else " --authority"
                renew = "cablectl ca renew" + (what or " FILE --out DIR")
                yield warn("certificate", told, f"renew it: {renew}, or ask your authority")
            case Urgency.EXPIRED:
                pass


def check_service(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that /etc/services has the port's name, if the file gives the port by name."""
    wanted = cable.overlay
    if wanted is None or not isinstance(wanted.port, str):
        return
    port = wanted.port_number
    if evidence.service_port == port:
        yield ok("service", f"{wanted.port} is UDP {port}")
    else:
        yield fail(
            "service",
            f"/etc/services doesn't name UDP {port} {wanted.port}, so whack refuses the name",
            f"write port: {port} in the file",
        )


def check_rotation(evidence: CableEvidence) -> Iterator[Finding]:
    """Tell that a rotation of the key is under way."""
    found = evidence.rotation
    if found is not RotationPhase.NONE:
        text = f"a rotation of the key is under way, {found}: {found.words}"
        yield warn("rotation", text, f"sudo cablectl rotate {evidence.files}")


def check_negotiation(host: HostEvidence, evidence: CableEvidence) -> Iterator[Finding]:
    """Check whether pluto logged a refusal in the last attempt of a connection that isn't up."""
    connections = evidence.facts.connections if evidence.facts else {}
    findings: dict[str, Finding] = {}
    for name, log in evidence.log.items():
        refusal = parse_refusal(_last_attempt(log))
        if refusal and not (name in connections and connections[name].up):
            # If the connection isn't loaded any more, the cause may be corrected already.
            state = FindingState.FAIL if name in connections else FindingState.WARN
            text = f"{refusal.reason}: {refusal.line}"
            findings.setdefault(refusal.reason, Finding("negotiation", state, text, refusal.remedy))
    yield from findings.values()
    if evidence.log and not findings:
        running = any(daemon.name == PLUTO for daemon in host.daemons)
        text = "pluto's log has no refusal in the last attempt"
        yield ok("negotiation", text if running else "skipped: pluto isn't running")


def _last_attempt(log: str) -> str:
    """Return the log lines since the connection was last loaded or came up."""
    lines = log.splitlines()
    begins = [i for i, line in enumerate(lines) if re.search(_ATTEMPT_BEGINS, line)]
    first = begins[-1] if begins else 0
    while first and _BEFORE_ADDED in lines[first - 1]:
        first -= 1
    return "\n".join(lines[first:])


def check_orientation(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check that pluto found an interface for each loaded connection, if one has the address."""
    facts = evidence.facts
    if facts and facts.holds_address and orientation.unoriented(cable, facts):
        error = orientation.error(cable, facts)
        yield fail("interface", error.message, error.hint)


def check_state(
    cable: Cable, evidence: CableEvidence, state: CableState | None
) -> Iterator[Finding]:
    """Check that the cable is complete, and report the missing parts."""
    connect = f"sudo cablectl connect {evidence.files}"
    if state is None:
        fix = "correct that first, then run doctor again"
        yield warn("cable", f"its state is unknown: {evidence.facts_error}", fix)
    elif state.verdict is Verdict.UP:
        yield ok("cable", f"complete: {len(cable.connections)} connections up")
    elif evidence.facts and not is_present(cable, evidence.facts):
        yield warn(
            "cable",
            "not connected: no part of it is on this host, as after a failed connect",
            connect,
        )
    else:
        fix = connect_plan.AGAIN if state.verdict is Verdict.FOREIGN else connect
        reported = _reported_by_other_checks(cable, evidence)
        for reason in state.reasons:
            if reason not in reported:
                yield fail("cable", reason, fix)


def _reported_by_other_checks(cable: Cable, evidence: CableEvidence) -> set[str]:
    """Return the reasons that other checks explain better: connect doesn't help against them."""
    facts = evidence.facts
    if facts is None:
        return set()
    reasons = {problem for problem, _ in table.in_the_way(cable, facts.overlay)}
    if not facts.holds_address:
        reasons.add(orientation.cause(cable, facts)[0])
    return reasons


def is_present(cable: Cable, facts: Facts) -> bool:
    """Return whether any part of the cable is on this host."""
    return bool(facts.loaded(cable) or facts.overlay.link or facts.guard)


def check_guard(evidence: CableEvidence, state: CableState | None) -> Iterator[Finding]:
    """Check whether the guard dropped packets, which were in clear text."""
    guard = state.guard if state else None
    if guard is None or not (evidence.facts and evidence.facts.guard):
        return
    if guard.dropped_in or guard.dropped_out:
        fix = "find the sender: run tcpdump on the overlay's port"
        yield warn("guard", _dropped(guard), fix)
    else:
        yield ok("guard", f"{guard.table} has dropped no packet")


def _dropped(guard: GuardState) -> str:
    counts = f"{guard.dropped_in} incoming and {guard.dropped_out} outgoing"
    return f"{guard.table} has dropped {counts} packets in clear text"


def check_offload(report: OffloadReport | None) -> Iterator[Finding]:
    """Check that the NIC offloads ESP as the file asks."""
    if report is None:
        return
    if report.asked in esp_offload.NEEDED and report.verdict not in ("crypto", "packet", "none"):
        text = f"the file asks for offload: {report.asked}, but the SAs are in software"
        yield fail(
            "offload",
            text,
            "`sudo cablectl offload` lists the reasons; or write offload: auto in the file",
        )
    else:
        where = "no SA yet" if report.verdict == "none" else f"SAs are in {report.verdict}"
        reasons = f": {'; '.join(report.reasons)}" if report.reasons else ""
        yield ok("offload", f"{where}{reasons}")


def check_traffic(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check whether the peer's VTEP answers pings, and if not, where packets are lost."""
    pings, wanted, peer = evidence.pings, cable.overlay, cable.remote.short_hostname
    if pings is None or wanted is None:
        return
    vtep = cable.remote_vtep.ip
    if pings.answered:
        yield ok("traffic", f"{vtep} answered {pings.answered} of {pings.sent} pings")
        return
    silent = f"{vtep} answers no ping" + (f" ({pings.error})" if pings.error else "")
    if cable.mode is Mode.NONE:
        fix = (
            f"check that the overlay is up on {peer} with the same VNI, and that no firewall drops"
            " its UDP port"
        )
        yield fail("traffic", silent, fix)
    elif not pings.bytes_out:
        fix = f"check `ip route get {vtep}`, and the FDB and the neighbours of {wanted.device}"
        yield fail("traffic", f"{silent}, and the SAs sent nothing meanwhile", fix)
    elif pings.may_have_answers or (evidence.received == 0 and received_bytes(cable, evidence)):
        yield fail(
            "traffic",
            f"{silent}; the SAs receive packets, but {wanted.device} has received"
            f" {evidence.received}",
            "use the same VNI or key in the file of both ends, and check that no firewall on this"
            " host drops the packets",
        )
    else:
        yield fail(
            "traffic",
            f"{silent}; the SAs sent {pings.bytes_out} bytes, and no answer came back",
            f"check that no firewall drops ESP, and that the overlay on {peer} is up, has the same"
            " VNI or key, and answers pings",
        )


def received_bytes(cable: Cable, evidence: CableEvidence) -> int:
    """Return how many bytes the cable's SAs have received."""
    loaded = evidence.facts.loaded(cable).values() if evidence.facts else ()
    return sum(sa.bytes_in for connection in loaded for sa in connection.child_sas)


def check_connect(cable: Cable, evidence: CableEvidence) -> Iterator[Finding]:
    """Check whether connect would refuse for a reason that no other check covers."""
    if evidence.facts is None:
        return
    try:
        connect_plan.plan((cable,), (evidence.facts,), narrowed=True)
    except CablectlError as error:
        yield fail("connect", f"connect would refuse: {error.message}", error.hint)
        return
    unchecked = evidence.facts.algorithms.unchecked
    if unchecked:
        asked = whack.algorithms_to_parse(cable)
        command = shlex.join((*pluto_commands.PARSE_ALGORITHMS, *asked))
        yield warn("connect", unchecked, f"find out why this fails: {command}")
    else:
        yield ok("connect", "connect finds no obstacle on this host")
