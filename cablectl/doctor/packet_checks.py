"""Checks of the packet filters: which rules of other programs may drop the cable's packets.

The cable's packets are: IKE and ESP between the gateways, the overlay's packets before and after
IPsec, and the packets between the subnets.
"""

from collections.abc import Iterator

from msgspec import Struct

from cablectl.doctor.evidence import CableEvidence, HostEvidence
from cablectl.doctor.finding import Finding, FindingState, ok
from cablectl.linux.firewall.filters import Chain, Obstacle, Packet, obstacles
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable, host_network
from cablectl.model.wishes import PLUTO_PORTS, Encapsulation, Mode, OverlayWish

INWARD = ("ingress", "prerouting", "input")
OUTWARD = ("output", "postrouting")
THROUGH = ("prerouting", "forward", "postrouting")


class Sample(Struct, frozen=True):
    """A packet as a filter sees it."""

    name: str  # for a person
    hooks: tuple[str, ...]  # the hooks that the packet passes
    packet: Packet
    answers: bool = True  # the packet may also be the answer to one in the other direction


def check_firewall(
    host: HostEvidence, cable: Cable | None, evidence: CableEvidence | None
) -> Iterator[Finding]:
    """Check whether a rule or a policy of nftables or iptables may drop the cable's packets."""
    if host.firewall is None:
        return
    samples = list(_samples(cable, evidence)) if cable and evidence else list(_any_cable())
    affected: dict[Obstacle, list[str]] = {}
    for sample in samples:
        for obstacle in _obstacles(host.firewall, sample):
            affected.setdefault(obstacle, []).append(sample.name)
    for obstacle, names in affected.items():
        state = FindingState.FAIL if obstacle.sure else FindingState.WARN
        yield Finding(
            "firewall",
            state,
            f"may drop {', '.join(dict.fromkeys(names))}: {obstacle.chain}: {obstacle.rule}",
            "add a rule that accepts these packets, earlier in the same chain",
        )
    if not affected:
        count = sum(1 for chain in host.firewall if chain.hook)
        text = f"{count} chains of other programs, and none drops packets of a cable"
        yield ok("firewall", text if count else "no packet filter besides cablectl's")


def _obstacles(chains: tuple[Chain, ...], sample: Sample) -> Iterator[Obstacle]:
    """Yield the rules that may drop the first packet; not surely, if they let an answer pass."""
    for_answers = set(obstacles(chains, sample.hooks, {**sample.packet, "state": "established"}))
    for obstacle in obstacles(chains, sample.hooks, {**sample.packet, "state": "new"}):
        sure = obstacle.sure and (obstacle in for_answers or not sample.answers)
        yield Obstacle(obstacle.chain, obstacle.rule, sure)


def _any_cable() -> Iterator[Sample]:
    """Yield the packets that every cable needs, to and from any address."""
    for port in PLUTO_PORTS:
        udp = {"protocol": "udp", "dport": port}
        yield Sample(f"UDP {port} in", INWARD, udp)
        yield Sample(f"UDP {port} out", OUTWARD, udp)
    yield Sample("ESP in", INWARD, {"protocol": "esp"})
    yield Sample("ESP out", OUTWARD, {"protocol": "esp"})


def _samples(cable: Cable, evidence: CableEvidence) -> Iterator[Sample]:
    if cable.mode is not Mode.NONE:
        for port in _ike_ports(cable):
            yield from _both_directions(cable, evidence, f"UDP {port}", "udp", port)
        if cable.encapsulation is not Encapsulation.YES:
            yield from _both_directions(cable, evidence, "ESP", "esp")
    if cable.overlay:
        yield from _inside(cable, evidence, cable.overlay)
    yield from _between_subnets(cable, evidence)


def _ike_ports(cable: Cable) -> tuple[int, ...]:
    """Return the IKE ports: with ESP in UDP, a negotiation on port 500 moves to 4500."""
    port = cable.ike_port(cable.local)
    moves = port == PLUTO_PORTS[0] and cable.encapsulation is Encapsulation.YES
    return PLUTO_PORTS if moves else (port,)


def _inside(cable: Cable, evidence: CableEvidence, overlay: OverlayWish) -> Iterator[Sample]:
    """Yield the overlay's packets, before they enter IPsec and after they have left it.

    A VTEP sends from any port to the overlay's port, so no packet is the answer to another.
    """
    kind, _ = overlay_of(overlay).link_info(cable)
    port, protocol = overlay.port_number, overlay.protocol(cable.local.address.version)
    name = f"the overlay's UDP {port}" if port else f"the overlay's {kind.upper()}"
    for sample in _both_directions(cable, evidence, name, protocol, port):
        # The ingress hook sees the packet while it is still ESP.
        hooks = tuple(hook for hook in sample.hooks if hook != "ingress")
        packet = {**sample.packet, "ipsec": cable.mode is not Mode.NONE}
        yield Sample(sample.name, hooks, packet, answers=port is None)


def _both_directions(
    cable: Cable, evidence: CableEvidence, name: str, protocol: str, port: int | None = None
) -> Iterator[Sample]:
    local, remote = host_network(cable.local.address), host_network(cable.remote_host)
    base = {"family": f"ipv{local.version}", "protocol": protocol, "ipsec": False}
    base |= {"dport": port} if port else {}
    device = evidence.route.device
    incoming = {**base, "saddr": remote, "daddr": local, **({"iif": device} if device else {})}
    outgoing = {**base, "saddr": local, "daddr": remote, **({"oif": device} if device else {})}
    yield Sample(f"{name} from {cable.remote_host}", INWARD, incoming)
    yield Sample(f"{name} to {cable.remote_host}", OUTWARD, outgoing)


def _between_subnets(cable: Cable, evidence: CableEvidence) -> Iterator[Sample]:
    cable_device = cable.overlay.device if cable.overlay else evidence.route.device
    if cable.overlay is None and cable.mode is not Mode.TUNNEL:
        return
    family = {"family": f"ipv{cable.local.address.version}"}
    for local in cable.local.networks:
        subnet_device = evidence.subnet_devices.get(str(local))
        for remote in cable.remote.networks:
            incoming = {"saddr": remote, "daddr": local, "iif": cable_device}
            outgoing = {"saddr": local, "daddr": remote, "oif": cable_device}
            if subnet_device:
                incoming["oif"] = outgoing["iif"] = subnet_device
            yield Sample(f"{remote} to {local}", THROUGH, {**family, **incoming})
            yield Sample(f"{local} to {remote}", THROUGH, {**family, **outgoing})
