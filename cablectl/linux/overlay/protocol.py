"""The protocol of an overlay: device, headers, clear packets, kernel module, traces on a host."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, Geneve, IpProtocol, OverlayWish, Vxlan

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

    @abstractmethod
    def link_type(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link add` from the word `type` on."""

    def link_change(self, cable: Cable) -> Argv:
        """Return the same arguments for `ip link set`, which gives the device another peer."""
        return self.link_type(cable)

    @abstractmethod
    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes of the device, as `ip -d -j link` prints them."""

    @abstractmethod
    def guard_match(self, cable: Cable, hosts: str) -> str:
        """Return the nftables match of the overlay's packets in one direction.

        `hosts` is a match of source and destination; an overlay uses it if the guard must match
        only packets between the two gateways.
        """

    @abstractmethod
    def matches(self, cable: Cable, packet: Packet) -> bool:
        """Tell whether a captured packet is a clear packet of this overlay."""

    def fdb_entries(self, cable: Cable) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """Return the forwarding entries as (MAC, gateway); a device for one peer needs none."""
        return ()

    @classmethod
    @abstractmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> OverlayWish | None:
        """Return the wish that a device on the host fulfils; None if it is another overlay's."""

    @classmethod
    @abstractmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> OverlayWish | None:
        """Return a wish for traffic selectors whose device is missing; None for another overlay."""


def between(cable: Cable, packet: Packet) -> bool:
    """Tell whether a packet travels between the two gateways, in either direction."""
    return {packet.source, packet.destination} == {cable.local.address, cable.remote_host}


class VniOverlay(Overlay, Protocol):
    """Ethernet frames in UDP with a VNI: VXLAN and Geneve look alike on the wire."""

    wish: Vxlan | Geneve
    headers: ClassVar[int] = 8 + 8 + 14  # UDP, VXLAN (RFC 7348) or Geneve (RFC 8926), Ethernet
    has_macs: ClassVar[bool] = True
    identity: ClassVar[tuple[str, ...]] = ("id", "port")

    def guard_match(self, cable: Cable, hosts: str) -> str:  # noqa: ARG002 - any source counts
        """Return the match of port and VNI, which is 96 bits after the start of UDP.

        Any source counts, since the device accepts packets from any.
        """
        return f"udp dport {self.wish.port_number} @th,96,24 {self.wish.vni}"

    def matches(self, cable: Cable, packet: Packet) -> bool:  # noqa: ARG002 - any source counts
        """Tell whether a packet has the device's port and VNI."""
        return (
            packet.protocol == IpProtocol.UDP.number
            and packet.payload[2:4] == self.wish.port_number.to_bytes(2)
            and packet.payload[12:15] == self.wish.vni.to_bytes(3)
        )
