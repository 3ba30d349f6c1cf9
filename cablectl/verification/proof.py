"""Turns the evidence of sent, counted and captured packets into the claims that prove a cable.

The proof relies on no statement of pluto: the kernel's SAs have to count the packets sent, their
ESP has to appear on the wire, and no packet of the cable may appear there in clear text.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts import earlier_devices, orientation
from cablectl.facts.host_facts import Facts, Pluto
from cablectl.linux import mtu, xfrm
from cablectl.linux.overlay.registry import headers_of
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode
from cablectl.plan.connect_plan import AGAIN, overlay_mtu
from cablectl.verification.frames import Tally

Sas = tuple[SecurityAssociation, ...]
PAYLOAD = 64  # bytes of ICMP in each packet, like ping


class ClaimState(StrEnum):
    """Whether a claim holds; without evidence for or against it, a claim isn't made."""

    OK = "ok"
    FAILED = "FAILED"
    NOT_MADE = "not made"


class Claim(Struct, frozen=True):
    """A claim with the number found, the number expected, and a text with both."""

    name: str
    state: ClaimState
    found: int
    expected: int
    text: str


class Answers(Struct, frozen=True, kw_only=True):
    """How many echo requests were sent and answered, and the kernel's error, if any."""

    sent: int
    answered: int
    error: str = ""


class Sizes(Struct, frozen=True, kw_only=True):
    """The largest packet in bytes."""

    found: int  # the largest that passed
    computed: int
    device: int | None  # the MTU of the overlay's device


class Flow(Struct, frozen=True):
    """The addresses of the packets to send, and the device on which their ESP is captured."""

    source: str
    target: str
    device: str


class Evidence(Struct, frozen=True, kw_only=True):
    """Everything observed while packets were sent."""

    cable: Cable
    flow: Flow
    requested: int  # packets to send
    answers: Answers
    before: Sas  # the SAs before sending
    after: Sas  # the SAs after sending
    tally: Tally
    lost: int  # frames that the capture lost
    guard_drops: int | None = None  # incoming packets that the guard dropped; None without a guard
    sizes: Sizes | None = None

    @property
    def sas(self) -> Sas:
        """Every SA that existed before or after, with what it carried meanwhile."""
        old, new = _by_identity(self.before), _by_identity(self.after)
        return tuple(_since(old.get(key), sa) for key, sa in (old | new).items())

    @property
    def rekeyed(self) -> bool:
        """Whether an SA was removed meanwhile, and its counters with it."""
        return not _by_identity(self.before).keys() <= _by_identity(self.after).keys()

    def direction(self, *, out: bool) -> Sas:
        """Return the SAs of one direction."""
        local = str(self.cable.local.address)
        return tuple(sa for sa in self.sas if (sa.destination != local) == out)

    @property
    def decrypted_early(self) -> bool:
        """Whether incoming packets are decrypted before a capture sees them.

        Generic receive offload with the kernel's esp4_offload does that for bare ESP. The capture
        then has the decrypted packets, which look like clear text.
        """
        return not self.tally.esp_in and self.decrypted

    @property
    def decrypted(self) -> bool:
        """Whether any incoming packet was decrypted."""
        return any(sa.packets for sa in self.direction(out=False))


def _by_identity(sas: Sas) -> dict[tuple[str, str], SecurityAssociation]:
    """Return SAs by destination and SPI, which identify an SA (RFC 4301, section 4.1)."""
    return {(sa.destination, sa.spi): sa for sa in sas}


def _since(before: SecurityAssociation | None, sa: SecurityAssociation) -> SecurityAssociation:
    if before is None:
        return sa
    return replace(sa, bytes=sa.bytes - before.bytes, packets=sa.packets - before.packets)


def flow(cable: Cable, facts: Facts) -> Flow:
    """Return the flow of packets that tests the cable.

    In tunnel mode it goes from this host's address in a local subnet to the first address of the
    peer's first subnet. HostNotReadyError if this host can't send the packets or observe them.
    """
    obstacle = next(_not_ready(cable, facts), None)
    if obstacle:
        message, hint = obstacle
        raise HostNotReadyError(message, hint=hint)
    source, target = str(cable.local.address), str(cable.remote_host)
    if cable.overlay:
        source, target = str(cable.local_vtep.ip), str(cable.remote_vtep.ip)
    elif cable.joins_subnets:
        source, target = facts.source, _target(cable)
    return Flow(source, target, facts.nic.device if facts.nic else "")


def _target(cable: Cable) -> str:
    """Return the peer if it is in its own subnets, else the first host of its first subnet."""
    inside = any(cable.remote.address in network for network in cable.remote.networks)
    first = next(iter(cable.remote.networks[0].hosts()))
    return str(cable.remote.address if inside else first)


def _not_ready(cable: Cable, facts: Facts) -> Iterator[tuple[str, str]]:
    if not facts.holds_address:
        yield orientation.cause(cable, facts)
    if facts.nic is None:
        local, remote = cable.local.address, cable.remote_host
        yield (
            f"no route from {local} to {remote}",
            f"check that this host has the address {local}, and a route to {remote}",
        )
    if cable.connections and facts.pluto is not Pluto.RUNNING:
        yield "pluto isn't running", "sudo systemctl start ipsec, then connect"
    wanted, link = cable.overlay, facts.overlay.link
    if wanted and not (link and link.up):
        problem = "is down" if link else "doesn't exist"
        yield f"the device {wanted.device} {problem}", "run sudo cablectl connect on both ends"
    if wanted and earlier_devices.is_of_earlier_file(cable, facts, wanted):
        yield f"the device {wanted.device} has addresses of an earlier file", "run connect first"
    if wanted and link and not link.fits(cable, wanted):
        yield f"the device {wanted.device} was made for another cable, port, VNI or key", AGAIN
    if cable.joins_subnets and not facts.source:
        subnets = ", ".join(map(str, cable.local.networks))
        yield (
            f"this host has no address in {subnets}, so it can't send from there",
            "add one while you verify: sudo ip address add ADDRESS dev lo",
        )
    sas = xfrm.sas_of(cable.connections, facts.policies, facts.sas)
    if any(sa.offload == "packet" for sa in sas):
        yield (
            "the NIC encrypts whole packets, after a capture on this host has seen them",
            "capture the packets on the switch instead",
        )


def packet_size(cable: Cable, payload: int) -> int:
    """Return the size in bytes of a packet with `payload` bytes of ICMP."""
    return payload + mtu.IP_HEADER[cable.local.address.version]


def counted_size(cable: Cable, size: int) -> int:
    """Return how many bytes an SA counts for a packet of `size` bytes in the cable."""
    if cable.overlay:
        return size + headers_of(cable, cable.overlay)
    header = mtu.IP_HEADER[cable.local.address.version]
    return size if cable.mode is Mode.TUNNEL else size - header


def largest(cable: Cable, facts: Facts, sas: Sas) -> int:
    """Return the largest packet in bytes: the device's planned MTU, or what the SAs leave.

    0 without a device and without SAs.
    """
    if cable.overlay:
        return overlay_mtu(cable, facts, cable.overlay)
    version = cable.local.address.version
    # In transport mode the packet's own IP header is the outer header.
    headers = 0 if cable.mode is Mode.TUNNEL else -mtu.IP_HEADER[version]
    return xfrm.largest(sas, facts.path_mtu, headers, version) or 0


def sweep(passes: Callable[[int], bool], guess: int, least: int, most: int) -> int:
    """Return the largest size that passes, by bisection; `least` has to pass.

    If the guess is right, only the guess and the next size are tried.
    """
    passing, failing = least, most + 1
    for size in (guess, guess + 1):
        if passing < size < failing:
            passing, failing = (size, failing) if passes(size) else (passing, size)
    while failing - passing > 1:
        middle = (passing + failing) // 2
        passing, failing = (middle, failing) if passes(middle) else (passing, middle)
    return passing


def claims(evidence: Evidence) -> tuple[Claim, ...]:
    """Return the claims; the cable is proven if none has failed."""
    sent = _sent(evidence)
    counted_out, counted_in = _counted(evidence, out=True), _counted(evidence, out=False)
    esp_out, esp_in = _esp(evidence, out=True), _esp(evidence, out=False)
    encrypted_out = all(claim.state is ClaimState.OK for claim in (sent, counted_out, esp_out))
    return (
        sent,
        _answered(evidence, encrypted_out=encrypted_out),
        counted_out,
        counted_in,
        esp_out,
        esp_in,
        _lost(evidence),
        _clear(evidence),
        *_size(evidence),
    )


def proven(claims: tuple[Claim, ...]) -> bool:
    """Return whether no claim has failed."""
    return all(claim.state is not ClaimState.FAILED for claim in claims)


def _holds(condition: bool) -> ClaimState:
    return ClaimState.OK if condition else ClaimState.FAILED


def _sent(evidence: Evidence) -> Claim:
    requested, answers = evidence.requested, evidence.answers
    size = packet_size(evidence.cable, PAYLOAD)
    text = f"{answers.sent} of {requested} packets of {size} bytes"
    if answers.error:
        text += f"; {answers.error}"
    return Claim("sent", _holds(answers.sent == requested), answers.sent, requested, text)


def _answered(evidence: Evidence, *, encrypted_out: bool) -> Claim:
    """Return the claim of answers; it isn't made if every packet was sent encrypted, unanswered."""
    sent, answered = evidence.answers.sent, evidence.answers.answered
    text = f"{answered} of {sent}"
    if answered:
        return Claim("answered", ClaimState.OK, answered, 1, text)
    if encrypted_out:
        text += f": ICMP is blocked at {evidence.flow.target}, or no host has that address"
        return Claim("answered", ClaimState.NOT_MADE, 0, 1, text)
    return Claim("answered", ClaimState.FAILED, 0, 1, text)


def _at_least(name: str, found: int, expected: int, text: str) -> Claim:
    state = _holds(found >= expected) if expected else ClaimState.NOT_MADE
    return Claim(name, state, found, expected, text)


def _counted(evidence: Evidence, *, out: bool) -> Claim:
    answers = evidence.answers
    size = counted_size(evidence.cable, packet_size(evidence.cable, PAYLOAD))
    expected = size * (answers.sent if out else answers.answered)
    sas = evidence.direction(out=out)
    found, spis = sum(sa.bytes for sa in sas), " ".join(sa.spi for sa in sas)
    text = f"{found} counted, {expected} {'sent' if out else 'answered'}; "
    text += f"by {spis}" if spis else "there is no SA"
    return _at_least(f"bytes {'out' if out else 'in'}", found, expected, text)


def _esp(evidence: Evidence, *, out: bool) -> Claim:
    answers, tally = evidence.answers, evidence.tally
    expected = answers.sent if out else answers.answered
    found = tally.esp_out if out else tally.esp_in
    name = f"ESP {'out' if out else 'in'}"
    text = f"{found} frames of these SAs, {expected} {'sent' if out else 'answered'}"
    if not out and evidence.decrypted_early:
        text += f"; {evidence.flow.device} decrypts packets before a capture sees them (GRO)"
        return Claim(name, ClaimState.NOT_MADE, found, expected, text)
    return _at_least(name, found, expected, text)


def _lost(evidence: Evidence) -> Claim:
    total = evidence.tally.all + evidence.lost
    text = f"{evidence.lost} frames, of {total} on {evidence.flow.device}"
    if evidence.lost:
        text += ": an incomplete capture proves nothing"
    return Claim("lost", _holds(not evidence.lost), evidence.lost, 0, text)


def _clear(evidence: Evidence) -> Claim:
    """Return the claim that nothing was in clear text.

    If packets are decrypted before the capture, the guard's counter replaces the capture: the
    guard knows whether IPsec has decrypted a packet. The capture can take a decrypted packet for
    one in clear text: a packet of TCP from a container of the same host has two time stamps.
    """
    clear_out, clear_in = evidence.tally.clear_out, evidence.tally.clear_in
    if evidence.guard_drops is not None and evidence.decrypted:
        clear_in = min(clear_in, evidence.guard_drops)
    if not evidence.decrypted_early:
        found, text = clear_out + clear_in, f"{clear_out} frames out, {clear_in} in"
    elif evidence.guard_drops is not None:
        found = clear_out + evidence.guard_drops
        text = f"{clear_out} frames out, {evidence.guard_drops} in, as the guard counted them"
    else:
        text = f"{clear_out} frames out; incoming frames can't be judged; try: "
        text += f"sudo ethtool -K {evidence.flow.device} gro off"
        return Claim("clear text", ClaimState.FAILED, clear_out, 0, text)
    if evidence.cable.mode is Mode.NONE:
        text += "; mode: none encrypts nothing"
    return Claim("clear text", _holds(not found), found, 0, text)


def _size(evidence: Evidence) -> Iterator[Claim]:
    sizes = evidence.sizes
    if not sizes:
        return
    device = sizes.device or sizes.computed
    exact = sizes.found == device == sizes.computed
    text = f"{sizes.found} bytes pass, {sizes.computed or 'nothing'} computed"
    if sizes.device:
        text += f", device MTU {sizes.device}"
    if not evidence.answers.answered:
        text = f"{sizes.computed} computed; without answers the largest packet can't be measured"
    yield Claim("MTU", _holds(exact), sizes.found, sizes.computed, text)
