"""What cablectl knows of an overlay: its device, headers, packets, kernel module and traces."""

from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, IpProtocol, OverlayWish

GROUP = "241"  # marks a device as cablectl's own from the moment it exists (ip-link(8))

LinkInfo = Mapping[str, object]  # what `ip -d -j link` calls info_data


class Packet(NamedTuple):
    """An IP packet; its payload is that of `protocol`, nothing for a fragment after the first."""

    source: AnyAddress
    destination: AnyAddress
    protocol: int
    payload: bytes


class KernelModule(NamedTuple):
    """A module of the kernel, its build option, and a function that proves it is built in."""

    name: str
    option: str
    function: str


class Overlay(Protocol):
    """One overlay with the wishes of a file; `registry` finds it for a wish."""

    wish: OverlayWish
    headers: ClassVar[int]
    """Bytes before the inner IP packet, without the outer IP header."""
    has_macs: ClassVar[bool]
    """Whether the device carries Ethernet frames, so that VTEPs are neighbours with a MAC."""
    leaves_by_route: ClassVar[bool] = False
    """Whether the device can't be given its own address and sends from the route's."""
    modules: ClassVar[Mapping[int, KernelModule]]
    """The kernel's module over IPv4 and over IPv6."""
    identity: ClassVar[tuple[str, ...]] = ()
    """The attributes of LinkInfo by which the kernel tells two such devices apart; () is all."""

    def link_type(self, cable: Cable) -> Argv:
        """Return the end of `ip link add`, from the word type on."""

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes, as `ip -d -j link` shows them of a device made like this."""

    def guard_match(self, cable: Cable, hosts: str) -> str:
        """Return the nftables match of the overlay's packets; `hosts` matches the two gateways."""

    def matches(self, cable: Cable, packet: Packet) -> bool:
        """Tell whether a captured packet is the overlay's own, in clear text."""

    def fdb_entries(self, cable: Cable) -> tuple[tuple[str, str], ...]:  # noqa: ARG002
        """Return (MAC, gateway) pairs; a device with one peer needs none to tell peers apart."""
        return ()

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> OverlayWish | None:
        """Return the wishes that a device answers; None if it is of another kind."""

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> OverlayWish | None:
        """Return the wishes of an overlay whose device is missing; None if it speaks another."""


def between(cable: Cable, packet: Packet) -> bool:
    """Tell whether a packet goes from one gateway of the cable to the other."""
    return {packet.source, packet.destination} == {cable.local.address, cable.remote_host}


def has_vni(packet: Packet, port: int, vni: int) -> bool:
    """Tell whether a packet goes to that UDP port with that VNI: VXLAN and Geneve look alike."""
    return (
        packet.protocol == IpProtocol.UDP.number
        and packet.payload[2:4] == port.to_bytes(2)
        and packet.payload[12:15] == vni.to_bytes(3)
    )


def vni_match(port: int, vni: int) -> str:
    """Return nftables' match for a UDP port and a VNI, which is 12 bytes after UDP's beginning."""
    return f"udp dport {port} @th,96,24 {vni}"
