"""Checks of the packet filters: which rule, not cablectl's own, may drop what the cable sends.

The packets are those that the cable takes: IKE and ESP between the gateways, the overlay's own on
their way through IPsec, those between the subnets.
"""

from collections.abc import Iterator

from msgspec import Struct

from cablectl.doctor.evidence import Ends, Host
from cablectl.doctor.finding import Finding, FindingState, ok
from cablectl.linux.firewall.filters import Chain, Obstacle, Packet, obstacles
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable, host_network
from cablectl.model.wishes import PLUTO_PORTS, Encapsulation, Mode, OverlayWish

INWARD = ("ingress", "prerouting", "input")
OUTWARD = ("output", "postrouting")
THROUGH = ("prerouting", "forward", "postrouting")


class Sample(Struct, frozen=True):
    """A packet as a filter sees it, the hooks that it passes, and what a person calls it.

    `answers` says whether it may as well be the answer to one that went the other way.
    """

    name: str
    hooks: tuple[str, ...]
    packet: Packet
    answers: bool = True


def firewall(host: Host, cable: Cable | None, ends: Ends | None) -> Iterator[Finding]:
    """Whether a rule or a policy of nftables or iptables may drop any of them."""
    if host.firewall is None:
        return
    samples = list(_of(cable, ends)) if cable and ends else list(_of_any())
    found: dict[Obstacle, list[str]] = {}
    for sample in samples:
        for obstacle in _in_the_way(host.firewall, sample):
            found.setdefault(obstacle, []).append(sample.name)
    for obstacle, names in found.items():
        state = FindingState.FAIL if obstacle.sure else FindingState.WARN
        yield Finding(
            "firewall",
            state,
            f"may drop {', '.join(dict.fromkeys(names))}: {obstacle.chain}: {obstacle.rule}",
            "accept that before, in the same chain",
        )
    if not found:
        filters = sum(1 for each in host.firewall if each.hook)
        told = f"{filters} chains of others, and none drops what a cable takes"
        yield ok("firewall", told if filters else "there is none of others")


def _in_the_way(chains: tuple[Chain, ...], sample: Sample) -> Iterator[Obstacle]:
    """Yield what may drop the packet that comes first; it isn't sure if it lets an answer pass."""
    later = set(obstacles(chains, sample.hooks, {**sample.packet, "state": "established"}))
    for each in obstacles(chains, sample.hooks, {**sample.packet, "state": "new"}):
        sure = each.sure and (each in later or not sample.answers)
        yield Obstacle(each.chain, each.rule, sure)


def _of_any() -> Iterator[Sample]:
    """Yield what every cable takes, to and from anybody."""
    for port in PLUTO_PORTS:
        udp = {"protocol": "udp", "dport": port}
        yield Sample(f"UDP {port} in", INWARD, udp)
        yield Sample(f"UDP {port} out", OUTWARD, udp)
    yield Sample("ESP in", INWARD, {"protocol": "esp"})
    yield Sample("ESP out", OUTWARD, {"protocol": "esp"})


def _of(cable: Cable, ends: Ends) -> Iterator[Sample]:
    if cable.mode is not Mode.NONE:
        for port in _ike_ports(cable):
            yield from _both_ways(cable, ends, f"UDP {port}", "udp", port)
        if cable.encapsulation is not Encapsulation.YES:
            yield from _both_ways(cable, ends, "ESP", "esp")
    if cable.overlay:
        yield from _inside(cable, ends, cable.overlay)
    yield from _between_subnets(cable, ends)


def _ike_ports(cable: Cable) -> tuple[int, ...]:
    """Return the peers' ports: IKE that begins at 500 goes on at 4500 where ESP is in UDP."""
    port = cable.ike_port(cable.local)
    floats = port == PLUTO_PORTS[0] and cable.encapsulation is Encapsulation.YES
    return PLUTO_PORTS if floats else (port,)


def _inside(cable: Cable, ends: Ends, overlay: OverlayWish) -> Iterator[Sample]:
    """Yield the overlay's own packets, before they enter IPsec and when they have left it.

    A VTEP sends from any port to the overlay's, so that none is the answer to another.
    """
    kind, _ = overlay_of(overlay).link_info(cable)
    port, protocol = overlay.port_number, overlay.protocol(cable.local.address.version)
    name = f"the overlay's UDP {port}" if port else f"the overlay's {kind.upper()}"
    for each in _both_ways(cable, ends, name, protocol, port):
        hooks = tuple(hook for hook in each.hooks if hook != "ingress")  # ESP is seen there
        packet = {**each.packet, "ipsec": cable.mode is not Mode.NONE}
        yield Sample(each.name, hooks, packet, answers=port is None)


def _both_ways(
    cable: Cable, ends: Ends, name: str, protocol: str, port: int | None = None
) -> Iterator[Sample]:
    ours, theirs = host_network(cable.local.address), host_network(cable.remote_host)
    base = {"family": f"ipv{ours.version}", "protocol": protocol, "ipsec": False}
    base |= {"dport": port} if port else {}
    device = ends.route.device
    into = {**base, "saddr": theirs, "daddr": ours, **({"iif": device} if device else {})}
    out = {**base, "saddr": ours, "daddr": theirs, **({"oif": device} if device else {})}
    yield Sample(f"{name} from {cable.remote_host}", INWARD, into)
    yield Sample(f"{name} to {cable.remote_host}", OUTWARD, out)


def _between_subnets(cable: Cable, ends: Ends) -> Iterator[Sample]:
    through = cable.overlay.device if cable.overlay else ends.route.device
    if cable.overlay is None and cable.mode is not Mode.TUNNEL:
        return
    family = {"family": f"ipv{cable.local.address.version}"}
    for ours in cable.local.networks:
        inside = ends.inner.get(str(ours))
        for theirs in cable.remote.networks:
            into = {"saddr": theirs, "daddr": ours, "iif": through}
            out = {"saddr": ours, "daddr": theirs, "oif": through}
            if inside:
                into["oif"] = out["iif"] = inside
            yield Sample(f"{theirs} to {ours}", THROUGH, {**family, **into})
            yield Sample(f"{ours} to {theirs}", THROUGH, {**family, **out})
