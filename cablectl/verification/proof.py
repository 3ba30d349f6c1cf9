"""What was sent, counted and captured → the claims that prove a cable, each with its numbers.

Nobody's word is taken for it: the kernel's SAs have to count what was sent, their ESP has to be
seen on the wire, and nothing of the cable may be seen there in clear text.
"""

from collections.abc import Callable, Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Facts, Pluto
from cablectl.linux import mtu, xfrm
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import Mode
from cablectl.plan.connect_plan import overlay_mtu
from cablectl.verification.frames import Tally

Sas = tuple[SecurityAssociation, ...]
PAYLOAD = 64  # bytes of ICMP in each packet, as ping sends it


class ClaimState(StrEnum):
    """Whether a claim holds; one that nothing was seen for or against is not made."""

    OK = "ok"
    FAILED = "FAILED"
    NOT_MADE = "not made"


class Claim(Struct, frozen=True):
    """What was found, beside what had to be, and both in words."""

    name: str
    state: ClaimState
    found: int
    expected: int
    text: str


class Answers(Struct, frozen=True, kw_only=True):
    """How many echo requests were sent and answered, and what the kernel said against it."""

    sent: int
    answered: int
    error: str = ""


class Sizes(Struct, frozen=True, kw_only=True):
    """The largest packet in bytes: found by trying, computed, and the device's MTU, if any."""

    found: int
    computed: int
    device: int | None


class Flow(Struct, frozen=True):
    """Between which addresses packets are sent, and the device at which their ESP is captured."""

    source: str
    target: str
    device: str


class Evidence(Struct, frozen=True, kw_only=True):
    """All that was seen while packets were sent; `asked` is how many should have been.

    `lost` is how many frames the capture lost; `kept_in` how many packets the guard dropped on
    their way in, None without one.
    """

    cable: Cable
    flow: Flow
    asked: int
    answers: Answers
    before: Sas
    after: Sas
    seen: Tally
    lost: int
    kept_in: int | None = None
    sizes: Sizes | None = None

    @property
    def sas(self) -> Sas:
        """Every SA that was there, once, with what it carried meanwhile, as far as it is known."""
        old, new = _named(self.before), _named(self.after)
        return tuple(_since(old.get(key), sa) for key, sa in (old | new).items())

    @property
    def rekeyed(self) -> bool:
        """Whether an SA went meanwhile, and with it what it had counted."""
        return not _named(self.before).keys() <= _named(self.after).keys()

    def way(self, *, out: bool) -> Sas:
        """Return the SAs of one direction."""
        local = str(self.cable.local.address)
        return tuple(sa for sa in self.sas if (sa.destination != local) == out)

    @property
    def hidden(self) -> bool:
        """Whether what comes in is decrypted before a capture sees it.

        So does generic receive offload with the kernel's esp4_offload, for bare ESP: the capture
        then has what was in the ESP, and nothing tells it from clear text.
        """
        return not self.seen.esp_in and any(sa.packets for sa in self.way(out=False))


def _named(sas: Sas) -> dict[tuple[str, str], SecurityAssociation]:
    """Return SAs by what tells one from another: destination and SPI (RFC 4301, section 4.1)."""
    return {(sa.destination, sa.spi): sa for sa in sas}


def _since(before: SecurityAssociation | None, sa: SecurityAssociation) -> SecurityAssociation:
    if before is None:
        return sa
    return replace(sa, bytes=sa.bytes - before.bytes, packets=sa.packets - before.packets)


def flow(cable: Cable, facts: Facts) -> Flow:
    """Return what to send through the cable.

    In tunnel mode it goes from an address of this host in its own subnets to the first of the
    peer's. HostNotReadyError if nothing can be sent, or if nobody here could see what is sent.
    """
    for message, hint in _not_ready(cable, facts):
        raise HostNotReadyError(message, hint=hint)
    source, target = str(cable.local.address), str(cable.remote_host)
    if cable.overlay:
        source, target = str(cable.local_vtep.ip), str(cable.remote_vtep.ip)
    elif cable.mode is Mode.TUNNEL:
        source, target = facts.source, str(next(iter(cable.remote.networks[0].hosts())))
    return Flow(source, target, facts.nic.device if facts.nic else "")


def _not_ready(cable: Cable, facts: Facts) -> Iterator[tuple[str, str]]:
    connect = "sudo cablectl connect, on both ends"
    if facts.nic is None:
        local, remote = cable.local.address, cable.remote_host
        yield f"no route from {local} to {remote}", "is it this host's address?"
    if cable.connections and facts.pluto is not Pluto.RUNNING:
        yield "pluto isn't running", "start Libreswan, then connect"
    wanted, link = cable.overlay, facts.overlay.link
    if wanted and not (link and link.up):
        yield f"the device {wanted.device} isn't {'up' if link else 'there'}", connect
    if wanted and link and not link.fits(cable, wanted):
        yield f"the device {wanted.device} was made for another cable, port, VNI or key", connect
    if cable.mode is Mode.TUNNEL and not facts.source:
        subnets = ", ".join(map(str, cable.local.networks))
        yield (
            f"this host has no address in {subnets}, and sends nothing from there",
            "give it one for as long as you verify: ip address add ADDRESS dev lo",
        )
    sas = xfrm.sas_of(cable.connections, facts.policies, facts.sas)
    if any(sa.offload == "packet" for sa in sas):
        yield (
            "the NIC encrypts whole packets, after a capture on this host has seen them",
            "capture on the switch",
        )


def inner(cable: Cable, payload: int) -> int:
    """Return how many bytes a packet has whose ICMP takes `payload` bytes."""
    return payload + mtu.IP_HEADER[cable.local.address.version]


def carried(cable: Cable, size: int) -> int:
    """Return what an SA counts for a packet of `size` bytes in the cable."""
    if cable.overlay:
        return size + overlay_of(cable.overlay).headers
    header = mtu.IP_HEADER[cable.local.address.version]
    return size if cable.mode is Mode.TUNNEL else size - header


def largest(cable: Cable, facts: Facts, sas: Sas) -> int:
    """Return the largest packet in bytes: the device's MTU as planned, or what the SAs leave.

    Nothing passes where there is neither: 0.
    """
    if cable.overlay:
        return overlay_mtu(cable, facts, cable.overlay)
    version = cable.local.address.version
    # Transport mode has the packet's own IP header outside.
    headers = 0 if cable.mode is Mode.TUNNEL else -mtu.IP_HEADER[version]
    return xfrm.largest(sas, facts.path_mtu, headers, version) or 0


def sweep(passes: Callable[[int], bool], guess: int, least: int, most: int) -> int:
    """Return the largest size that passes; `least` does. If the guess is it, two are tried."""
    low, high = least, most + 1  # low passes, high doesn't
    for size in (guess, guess + 1):
        if low < size < high:
            low, high = (size, high) if passes(size) else (low, size)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if passes(middle) else (low, middle)
    return low


def claims(evidence: Evidence) -> tuple[Claim, ...]:
    """Return the claims; the cable is proven if none has failed."""
    sent, lost = _sent(evidence), _lost(evidence)
    counted = [_counted(evidence, out=out) for out in (True, False)]
    esp = [_esp(evidence, out=out) for out in (True, False)]
    left = all(claim.state is ClaimState.OK for claim in (sent, counted[0], esp[0]))
    answered = _answered(evidence, left=left)
    return (sent, answered, *counted, *esp, lost, _clear(evidence), *_size(evidence))


def proven(made: tuple[Claim, ...]) -> bool:
    """Tell whether nothing speaks against the cable."""
    return all(claim.state is not ClaimState.FAILED for claim in made)


def _holds(condition: bool) -> ClaimState:
    return ClaimState.OK if condition else ClaimState.FAILED


def _sent(evidence: Evidence) -> Claim:
    asked, answers = evidence.asked, evidence.answers
    size = inner(evidence.cable, PAYLOAD)
    text = f"{answers.sent} of {asked} packets of {size} bytes"
    if answers.error:
        text += f"; {answers.error}"
    return Claim("sent", _holds(answers.sent == asked), answers.sent, asked, text)


def _answered(evidence: Evidence, *, left: bool) -> Claim:
    """No answer is no failure if all that was sent did leave encrypted; nothing is claimed then."""
    sent, answered = evidence.answers.sent, evidence.answers.answered
    text = f"{answered} of {sent}"
    if answered:
        return Claim("answered", ClaimState.OK, answered, 1, text)
    if left:
        text += f": ICMP is blocked at {evidence.flow.target}, or nobody is there"
    return Claim("answered", ClaimState.NOT_MADE if left else ClaimState.FAILED, 0, 1, text)


def _at_least(name: str, found: int, expected: int, text: str) -> Claim:
    state = _holds(found >= expected) if expected else ClaimState.NOT_MADE
    return Claim(name, state, found, expected, text)


def _counted(evidence: Evidence, *, out: bool) -> Claim:
    answers = evidence.answers
    each = carried(evidence.cable, inner(evidence.cable, PAYLOAD))
    expected = each * (answers.sent if out else answers.answered)
    sas = evidence.way(out=out)
    found, spis = sum(sa.bytes for sa in sas), " ".join(sa.spi for sa in sas)
    text = f"{found} counted, {expected} {'sent' if out else 'answered'}; "
    text += f"by {spis}" if spis else "there is no SA"
    return _at_least(f"bytes {'out' if out else 'in'}", found, expected, text)


def _esp(evidence: Evidence, *, out: bool) -> Claim:
    answers, seen = evidence.answers, evidence.seen
    expected = answers.sent if out else answers.answered
    found = seen.esp_out if out else seen.esp_in
    name = f"ESP {'out' if out else 'in'}"
    text = f"{found} frames of these SAs, {expected} {'sent' if out else 'answered'}"
    if not out and evidence.hidden:
        text += f"; {evidence.flow.device} decrypts before a capture sees it (GRO)"
        return Claim(name, ClaimState.NOT_MADE, found, expected, text)
    return _at_least(name, found, expected, text)


def _lost(evidence: Evidence) -> Claim:
    text = (
        f"{evidence.lost} frames, of {evidence.seen.all + evidence.lost} on {evidence.flow.device}"
    )
    if evidence.lost:
        text += ": such a capture proves nothing"
    return Claim("lost", _holds(not evidence.lost), evidence.lost, 0, text)


def _clear(evidence: Evidence) -> Claim:
    """Where the capture can't tell what came in, the guard can: it sees what IPsec did."""
    out, into = evidence.seen.clear_out, evidence.seen.clear_in
    if not evidence.hidden:
        found, text = out + into, f"{out} frames out, {into} in"
    elif evidence.kept_in is not None:
        found = out + evidence.kept_in
        text = f"{out} frames out, {evidence.kept_in} in, as the guard counted them"
    else:
        text = f"{out} frames out; in can't be told: ethtool -K {evidence.flow.device} gro off"
        return Claim("clear text", ClaimState.FAILED, out, 0, text)
    if evidence.cable.mode is Mode.NONE:
        text += "; mode: none encrypts nothing"
    return Claim("clear text", _holds(not found), found, 0, text)


def _size(evidence: Evidence) -> Iterator[Claim]:
    sizes = evidence.sizes
    if not sizes:
        return
    exact = {sizes.found, sizes.device or sizes.computed} == {sizes.computed}
    text = f"{sizes.found} bytes pass, {sizes.computed or 'nothing'} computed"
    if sizes.device:
        text += f", {sizes.device} is the device's"
    if not evidence.answers.answered:
        text = f"{sizes.computed} computed; without an answer nothing can be seen to pass"
    yield Claim("MTU", _holds(exact), sizes.found, sizes.computed, text)
