"""The IP in IP overlay (RFC 2003, RFC 2473), as iproute2 makes it: a device for one peer.

An ordinary interface at the byte cost of tunnel mode: ESP in transport mode protects the inner
packet with nothing but its outer IP header before it.
"""

from collections.abc import Mapping
from typing import ClassVar

from cablectl.linux.overlay.protocol import KernelModule, LinkInfo, Overlay, Packet, between
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Ipip, IpProtocol

# Device type and mode over IPv4 and IPv6; without a mode, ipip takes MPLS as well.
_KINDS = {4: ("ipip", "ipip"), 6: ("ip6tnl", "ip6ip6")}


class IpipOverlay(Overlay):
    """IPv4 in IPv4, or IPv6 in IPv6; the two gateways alone tell one such device from another."""

    headers: ClassVar[int] = 0
    has_macs: ClassVar[bool] = False
    modules: ClassVar[Mapping[int, KernelModule]] = {
        4: KernelModule("ipip", "CONFIG_NET_IPIP", "ipip_tunnel_xmit"),
        6: KernelModule("ip6_tunnel", "CONFIG_IPV6_TUNNEL", "ip6_tnl_start_xmit"),
    }

    def __init__(self, wish: Ipip) -> None:
        self.wish: Ipip = wish

    def link_type(self, cable: Cable) -> Argv:
        """Return the end of `ip link add`; over IPv6 without the option of RFC 2473, 8 bytes."""
        version = cable.local.address.version
        kind, mode = _KINDS[version]
        return (
            *("type", kind, "local", str(cable.local.address), "remote", str(cable.remote_host)),
            *("mode", mode, *(("encaplimit", "none") if version == 6 else ())),
        )

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes."""
        kind, mode = _KINDS[cable.local.address.version]
        ends = {"local": str(cable.local.address), "remote": str(cable.remote_host)}
        return kind, {"proto": mode, **ends}

    def guard_match(self, cable: Cable, hosts: str) -> str:
        """Return the match of IP in IP between the two gateways."""
        return f"{hosts} meta l4proto {self.wish.protocol(cable.local.address.version).number}"

    def matches(self, cable: Cable, packet: Packet) -> bool:
        """Tell it by its protocol and the two gateways."""
        protocol = self.wish.protocol(cable.local.address.version)
        return packet.protocol == protocol.number and between(cable, packet)

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> Ipip | None:
        """Return the wishes that a device answers."""
        return Ipip(device=device) if (kind, info.get("proto")) in _KINDS.values() else None

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> Ipip | None:  # noqa: ARG003
        """Take IP in IP for the usual device's."""
        return Ipip() if protocol in (IpProtocol.IPV4, IpProtocol.IPV6) else None
