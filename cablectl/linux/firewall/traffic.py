"""The packets of a cable as a packet filter sees them.

They are: IKE and ESP between the gateways, the overlay's packets before and after IPsec, and the
packets between the subnets.
"""

from collections.abc import Iterable, Iterator, Mapping
from ipaddress import ip_interface
from typing import Any

from msgspec import Struct

from cablectl.linux.firewall.filters import UNKNOWN_DEVICE, Packet
from cablectl.linux.overlay.registry import overlay_of
from cablectl.model.cable import Cable
from cablectl.model.connection import host_network
from cablectl.model.wishes import (
    PLUTO_PORTS,
    AnyAddress,
    AnyNetwork,
    Encapsulation,
    Initiate,
    Mode,
    OverlayWish,
)

INWARD = ("ingress", "prerouting", "input")
OUTWARD = ("output", "postrouting")
THROUGH = ("prerouting", "forward", "postrouting")


class Devices(Struct, frozen=True):
    """The devices through which the cable's packets pass, as far as they are known."""

    outside: str = ""  # leads to the peer
    addresses: frozenset[str] = frozenset()  # of `outside`, each with its prefix length
    subnets: Mapping[str, str] = {}  # the device that leads to each local subnet


class Sample(Struct, frozen=True):
    """A packet as a filter sees it."""

    name: str  # for a person
    hooks: tuple[str, ...]  # the hooks that the packet passes
    packet: Packet
    outgoing: bool = False  # whether it leaves for the remote end
    untracked: bool = False  # whether the guard exempts it from connection tracking, so from NAT

    @property
    def forwarded(self) -> bool:
        """Whether it stands for all packets from one subnet to another."""
        return self.hooks == THROUGH


class Exchange(Struct, frozen=True):
    """Packets in both directions, and which end may send the first one of a flow.

    A packet of the other end may then be the answer in this flow.
    """

    incoming: Sample
    outgoing: Sample
    begins_here: bool = True
    begins_there: bool = True


def device_of(subnet: AnyNetwork, addresses: Mapping[str, Iterable[str]]) -> str:
    """Return the device that has an address in a subnet; empty if none has.

    The addresses have prefix lengths. lo isn't meant: the kernel routes all own addresses to it.
    """
    for name, held in addresses.items():
        if name != "lo" and any(ip_interface(text).ip in subnet for text in held):
            return name
    return ""


def of_any_cable() -> Iterator[Exchange]:
    """Yield the packets that every cable needs, to and from any address."""
    packets: dict[str, Packet] = {
        **{f"UDP {port}": {"protocol": "udp", "dport": port} for port in PLUTO_PORTS},
        "ESP": {"protocol": "esp"},
    }
    for name, packet in packets.items():
        there = {"saddrtype": "unicast", "daddrtype": "local", "iif": UNKNOWN_DEVICE}
        back = {"saddrtype": "local", "daddrtype": "unicast", "oif": UNKNOWN_DEVICE}
        yield Exchange(
            Sample(f"{name} in", INWARD, {**packet, **there}),
            Sample(f"{name} out", OUTWARD, {**packet, **back}, outgoing=True),
        )


def of_cable(cable: Cable, devices: Devices) -> Iterator[Exchange]:
    """Yield the packets of a cable."""
    yield from between_gateways(cable, devices)
    yield from between_subnets(cable, devices)


def between_gateways(cable: Cable, devices: Devices) -> Iterator[Exchange]:
    """Yield the packets between the gateways: IKE, ESP, and the overlay's."""
    ends = cable.local.address, cable.remote_host
    if cable.mode is not Mode.NONE:
        for port in _ike_ports(cable):
            ike = _between(ends, devices, f"UDP {port}", "udp", port)
            both = cable.ipsec.initiate is Initiate.BOTH
            yield Exchange(*ike, cable.initiates, both or not cable.initiates)
        if cable.encapsulation is not Encapsulation.YES:
            yield Exchange(*_between(ends, devices, "ESP", "esp"))
    if cable.overlay:
        yield _inside(cable, devices, cable.overlay)


def between_subnets(cable: Cable, devices: Devices) -> Iterator[Exchange]:
    """Yield the packets between the subnets, if this gateway forwards them: those of TCP."""
    if not cable.carries_subnets:
        return
    for local in cable.local.networks:
        for remote in cable.remote.networks:
            yield _between_two_subnets(cable, devices, local, remote)


def _ike_ports(cable: Cable) -> tuple[int, ...]:
    """Return the IKE ports: with ESP in UDP, a negotiation on port 500 moves to 4500."""
    port = cable.ike_port(cable.local)
    moves = port == PLUTO_PORTS[0] and cable.encapsulation is Encapsulation.YES
    return PLUTO_PORTS if moves else (port,)


def _inside(cable: Cable, devices: Devices, overlay: OverlayWish) -> Exchange:
    """Return the overlay's packets, before they enter IPsec and after they have left it.

    A VTEP sends from any port to the overlay's port, so no packet is the answer to another.
    """
    kind, _ = overlay_of(overlay).link_info(cable)
    port, protocol = overlay.port_number, overlay.protocol(cable.local.address.version)
    name = f"the overlay's UDP {port}" if port else f"the overlay's {kind.upper()}"

    ends = cable.local_underlay, cable.remote_underlay
    incoming, outgoing = _between(ends, devices, name, protocol, port)
    protected = cable.mode is not Mode.NONE
    # The ingress hook sees the packet while it is still ESP.
    return Exchange(
        Sample(incoming.name, INWARD[1:], {**incoming.packet, "ipsec": protected}),
        Sample(
            outgoing.name,
            OUTWARD,
            {**outgoing.packet, "ipsec_out": protected},
            outgoing=True,
            untracked=cable.guarded and cable.mode is Mode.TUNNEL,
        ),
        begins_here=port is None,
        begins_there=port is None,
    )


def _between(
    ends: tuple[AnyAddress, AnyAddress],
    devices: Devices,
    name: str,
    protocol: str,
    port: int | None = None,
) -> tuple[Sample, Sample]:
    """Return an incoming and an outgoing packet between the ends, the local one first."""
    local, remote = map(host_network, ends)
    base: Packet = {
        "family": f"ipv{local.version}",
        "protocol": protocol,
        "ipsec": False,
        "ipsec_out": False,
        **({"dport": port} if port else {}),
    }
    there: dict[str, Any] = {
        "saddr": remote,
        "daddr": local,
        "saddrtype": "unicast",
        "daddrtype": "local",
    }
    back: dict[str, Any] = {
        "saddr": local,
        "daddr": remote,
        "saddrtype": "local",
        "daddrtype": "unicast",
    }
    there["iif"] = back["oif"] = devices.outside or UNKNOWN_DEVICE
    return (
        Sample(f"{name} from {ends[1]}", INWARD, {**base, **there}),
        Sample(f"{name} to {ends[1]}", OUTWARD, {**base, **back}, outgoing=True),
    )


def _between_two_subnets(
    cable: Cable, devices: Devices, local: AnyNetwork, remote: AnyNetwork
) -> Exchange:
    device = cable.overlay.device if cable.overlay else devices.outside
    inside = devices.subnets.get(str(local)) or UNKNOWN_DEVICE
    tunnel = cable.joins_subnets
    base: Packet = {
        "family": f"ipv{local.version}",
        "protocol": "tcp",
        "saddrtype": "unicast",
        "daddrtype": "unicast",
    }
    incoming = {
        **base,
        **{"saddr": remote, "daddr": local, "iif": device or UNKNOWN_DEVICE, "oif": inside},
        **{"ipsec": tunnel, "ipsec_out": False},
    }
    outgoing = {
        **base,
        **{"saddr": local, "daddr": remote, "iif": inside, "oif": device or UNKNOWN_DEVICE},
        **{"ipsec": False, "ipsec_out": tunnel},
    }
    return Exchange(
        Sample(f"{remote} to {local}", THROUGH, incoming),
        Sample(f"{local} to {remote}", THROUGH, outgoing, outgoing=True),
    )
