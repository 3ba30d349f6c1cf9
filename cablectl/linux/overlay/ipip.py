"""The IP in IP overlay (RFC 2003, RFC 2473): a device for one peer.

It has an ordinary interface and costs as many bytes as tunnel mode: ESP in transport mode carries
the inner IP packet without any overlay header.
"""

from collections.abc import Mapping
from typing import ClassVar

from cablectl.linux.nftables import Expression, match, meta
from cablectl.linux.overlay.protocol import KernelModule, LinkInfo, Overlay, Packet, between
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Ipip, IpProtocol

# Device type and mode by outer IP version; without a mode, an ipip device also accepts MPLS.
_KINDS = {4: ("ipip", "ipip"), 6: ("ip6tnl", "ip6ip6")}


class IpipOverlay(Overlay):
    """An IPv4-in-IPv4 or IPv6-in-IPv6 device; only the gateways' addresses identify it."""

    headers: ClassVar[int] = 0
    has_macs: ClassVar[bool] = False
    modules: ClassVar[Mapping[int, KernelModule]] = {
        4: KernelModule("ipip", "CONFIG_NET_IPIP", "ipip_tunnel_xmit"),
        6: KernelModule("ip6_tunnel", "CONFIG_IPV6_TUNNEL", "ip6_tnl_start_xmit"),
    }

    def __init__(self, wish: Ipip) -> None:
        self.wish: Ipip = wish

    def link_type(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link add` from the word `type` on.

        Over IPv6, `encaplimit none` leaves out an option header of 8 bytes (RFC 2473).
        """
        version = cable.local.address.version
        kind, mode = _KINDS[version]
        return (
            *(
                "type",
                kind,
                "local",
                str(cable.local_underlay),
                "remote",
                str(cable.remote_underlay),
            ),
            *("mode", mode, *(("encaplimit", "none") if version == 6 else ())),
        )

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes of the device, as `ip -d -j link` prints them."""
        kind, mode = _KINDS[cable.local.address.version]
        ends = {"local": str(cable.local_underlay), "remote": str(cable.remote_underlay)}
        return kind, {"proto": mode, **ends}

    def guard_match(self, cable: Cable) -> tuple[Expression, ...]:
        """Return the match of IP in IP."""
        protocol = self.wish.protocol(cable.local.address.version)
        return (match(meta("l4proto"), protocol.number),)

    def matches(self, cable: Cable, packet: Packet) -> bool:
        """Tell whether a packet is IP in IP between the two gateways."""
        protocol = self.wish.protocol(cable.local.address.version)
        return packet.protocol == protocol.number and between(cable, packet)

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> Ipip | None:
        """Return the wish of an IP in IP device; None for any other device."""
        return Ipip(device=device) if (kind, info.get("proto")) in _KINDS.values() else None

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> Ipip | None:  # noqa: ARG003
        """Return an IP in IP overlay for protocol 4 or 41."""
        return Ipip() if protocol in (IpProtocol.IPV4, IpProtocol.IPV6) else None
