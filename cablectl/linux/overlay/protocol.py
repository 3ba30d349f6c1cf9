"""The protocol of an overlay: device, headers, clear packets, kernel module, traces on a host."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, IpProtocol, OverlayWish

GROUP = "241"  # the group that marks a device as cablectl's own when it is made (ip-link(8))

LinkInfo = Mapping[str, object]  # the attributes that `ip -d -j link` calls info_data


class Packet(NamedTuple):
    """An IP packet; `payload` begins with the header of `protocol`; empty for a later fragment."""

    source: AnyAddress
    destination: AnyAddress
    protocol: int
    payload: bytes


class KernelModule(NamedTuple):
    """A kernel module, its build option, and one function, listed in /proc/kallsyms if loaded."""

    name: str
    option: str
    function: str


class Overlay(Protocol):
    """An overlay as a file describes it; `registry.overlay_of` returns it for a wish."""

    wish: OverlayWish
    headers: ClassVar[int]
    """Length in bytes of the headers between the outer IP header and the inner IP packet."""
    has_macs: ClassVar[bool]
    """Whether the device carries Ethernet frames, so that each VTEP has a MAC."""
    leaves_by_route: ClassVar[bool] = False
    """Whether the device has no local address, so that the route chooses the outer source."""
    modules: ClassVar[Mapping[int, KernelModule]]
    """The kernel module by outer IP version, 4 and 6."""
    identity: ClassVar[tuple[str, ...]] = ()
    """The attributes of LinkInfo that the kernel wants unique on a host; () is all of them."""

    def link_type(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link add` from the word `type` on."""

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes of the device, as `ip -d -j link` prints them."""

    def guard_match(self, cable: Cable, hosts: str) -> str:
        """Return the nftables match of the overlay's packets in one direction.

        `hosts` is a match of source and destination; an overlay uses it if the guard must match
        only packets between the two gateways.
        """

    def matches(self, cable: Cable, packet: Packet) -> bool:
        """Tell whether a captured packet is a clear packet of this overlay."""

    def fdb_entries(self, cable: Cable) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """Return the forwarding entries as (MAC, gateway); a device for one peer needs none."""
        return ()

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> OverlayWish | None:
        """Return the wish that a device on the host fulfils; None if it is another overlay's."""

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> OverlayWish | None:
        """Return a wish for traffic selectors whose device is missing; None for another overlay."""


def between(cable: Cable, packet: Packet) -> bool:
    """Tell whether a packet travels between the two gateways, in either direction."""
    return {packet.source, packet.destination} == {cable.local.address, cable.remote_host}


def has_vni(packet: Packet, port: int, vni: int) -> bool:
    """Tell whether a packet has that UDP port and VNI, at the offset of VXLAN and of Geneve."""
    return (
        packet.protocol == IpProtocol.UDP.number
        and packet.payload[2:4] == port.to_bytes(2)
        and packet.payload[12:15] == vni.to_bytes(3)
    )


def vni_match(port: int, vni: int) -> str:
    """Return nftables' match of UDP port and VNI: 24 bits, 96 bits after the start of UDP."""
    return f"udp dport {port} @th,96,24 {vni}"
