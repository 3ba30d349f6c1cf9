"""The protocol of an overlay: device, headers, clear packets, kernel module, traces on a host."""

from abc import abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple, Protocol

from cablectl.linux.nftables import Expression, match, payload, raw
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress, Geneve, IpProtocol, OverlayWish, Vxlan

GROUP = "241"  # the group that marks a device as cablectl's own when it is made (ip-link(8))

UDP_KINDS = ("vxlan", "geneve")  # the kinds of devices that open a UDP socket

LinkInfo = Mapping[str, object]  # the attributes that `ip -d -j link` calls info_data


class Packet(NamedTuple):
    """An IP packet; `payload` begins with the header of `protocol`; empty for a later fragment."""

    source: AnyAddress
    destination: AnyAddress
    protocol: int
    payload: bytes


class Clash(NamedTuple):
    """Why the kernel refuses the cable's device beside another device."""

    reason: str  # what the other device is
    field: str  # of the overlay's section in the file: another value avoids it; empty if none does


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
    accepts_any_source: ClassVar[bool] = False
    """Whether the device accepts packets from any address, not only from its peer."""
    keeps_mtu: ClassVar[bool] = False
    """Whether the device keeps its MTU when it gets other addresses."""
    modules: ClassVar[Mapping[int, KernelModule]]
    """The kernel module by outer IP version, 4 and 6."""
    identity: ClassVar[tuple[str, ...]] = ()
    """The attributes of LinkInfo that the kernel wants unique on a host; () is all of them."""

    @abstractmethod
    def link_type(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link add` from the word `type` on."""

    def link_change(self, cable: Cable) -> Argv:
        """Return the same arguments for `ip link set`, which gives the device other addresses."""
        return self.link_type(cable)

    @abstractmethod
    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes of the device, as `ip -d -j link` prints them."""

    @abstractmethod
    def guard_match(self, cable: Cable) -> tuple[Expression, ...]:
        """Return the nftables match of the overlay's packets, whatever their addresses."""

    @abstractmethod
    def matches(self, cable: Cable, packet: Packet) -> bool:
        """Tell whether a captured packet is a clear packet of this overlay."""

    def clash(self, cable: Cable, kind: str, info: LinkInfo, *, up: bool) -> Clash | None:  # noqa: ARG002
        """Return why the kernel refuses this overlay's device beside another device of the host.

        `kind` and `info` are the other device's, and `up` whether it is up. None if it doesn't.
        """
        own_kind, own = self.link_info(cable)
        if kind == own_kind and all(info.get(key) == own[key] for key in own):
            return Clash(f"is a {kind} device between the same hosts", "")
        return None

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
    """Tell whether a packet is one that the two gateways' devices or hosts send to each other."""
    return {packet.source, packet.destination} == {cable.local_underlay, cable.remote_underlay}


class VniOverlay(Overlay, Protocol):
    """Ethernet frames in UDP with a VNI: VXLAN and Geneve look alike on the wire."""

    wish: Vxlan | Geneve
    headers: ClassVar[int] = 8 + 8 + 14  # UDP, VXLAN (RFC 7348) or Geneve (RFC 8926), Ethernet
    has_macs: ClassVar[bool] = True
    accepts_any_source: ClassVar[bool] = True
    identity: ClassVar[tuple[str, ...]] = ("id", "port")

    def guard_match(self, cable: Cable) -> tuple[Expression, ...]:  # noqa: ARG002
        """Return the match of port and VNI, which is 96 bits after the start of UDP."""
        port = match(payload("udp", "dport"), self.wish.port_number)
        return port, match(raw(96, 24), self.wish.vni)

    def clash(self, cable: Cable, kind: str, info: LinkInfo, *, up: bool) -> Clash | None:
        """Return why the kernel refuses this overlay's device beside another one on its port.

        Devices share one socket for each port and version of IP, if they are of the same kind.
        """
        own_kind, _ = self.link_info(cable)
        if kind not in UDP_KINDS or info.get("port") != self.wish.port_number:
            return None
        if kind == own_kind:
            return self.clash_on_port(cable, info, up=up)
        if up and cable.local.address.version in versions(info):
            return Clash(f"is a {kind} device on UDP {self.wish.port_number}", "port")
        return None

    @abstractmethod
    def clash_on_port(self, cable: Cable, info: LinkInfo, *, up: bool) -> Clash | None:
        """Return what `clash` does, for another device of this kind on the same port."""

    def matches(self, cable: Cable, packet: Packet) -> bool:  # noqa: ARG002 - any source counts
        """Tell whether a packet has the device's port and VNI."""
        return (
            packet.protocol == IpProtocol.UDP.number
            and packet.payload[2:4] == self.wish.port_number.to_bytes(2)
            and packet.payload[12:15] == self.wish.vni.to_bytes(3)
        )


def versions(info: LinkInfo) -> tuple[int, ...]:
    """Return the versions of IP for which a VXLAN or Geneve device opens a socket when it is up."""
    if info.get("external"):
        return (4, 6)
    return (6,) if {"local6", "remote6", "group6"} & info.keys() else (4,)
