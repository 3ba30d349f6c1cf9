"""The GRE overlay (RFC 2784) with a key (RFC 2890): a device for one peer."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import ClassVar

from cablectl.linux.nftables import Expression, match, meta, raw
from cablectl.linux.overlay.protocol import KernelModule, LinkInfo, Overlay, Packet
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Gre, IpProtocol

_HAS_KEY = 0x2000  # the header's K flag (RFC 2890, section 2)


class GreOverlay(Overlay):
    """A GRE device that carries IP packets without Ethernet headers."""

    headers: ClassVar[int] = 4 + 4  # GRE (RFC 2784, section 2.1) and its key (RFC 2890, section 2)
    has_macs: ClassVar[bool] = False
    modules: ClassVar[Mapping[int, KernelModule]] = {
        4: KernelModule("ip_gre", "CONFIG_NET_IPGRE", "ipgre_xmit"),
        6: KernelModule("ip6_gre", "CONFIG_IPV6_GRE", "ip6gre_tunnel_xmit"),
    }

    def __init__(self, wish: Gre) -> None:
        self.wish: Gre = wish

    def link_type(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link add` from the word `type` on.

        Over IPv6, `encaplimit none` leaves out an option header of 8 bytes (RFC 2473).
        """
        ends = ("local", str(cable.local_underlay), "remote", str(cable.remote_underlay))
        return (
            *("type", _kind(cable), *ends, "key", str(self.wish.key)),
            *(("encaplimit", "none") if cable.local.address.version == 6 else ()),
        )

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes as `ip -d -j link` prints them: a key as an IPv4 address."""
        key = str(IPv4Address(self.wish.key))
        ends = {"local": str(cable.local_underlay), "remote": str(cable.remote_underlay)}
        return _kind(cable), {**ends, "ikey": key, "okey": key}

    def guard_match(self, cable: Cable) -> tuple[Expression, ...]:  # noqa: ARG002
        """Return the match of GRE and the key, the header's second word (RFC 2890)."""
        return match(meta("l4proto"), "gre"), match(raw(32, 32), self.wish.key)

    def matches(self, cable: Cable, packet: Packet) -> bool:  # noqa: ARG002 - the key is enough
        """Tell whether a packet is GRE with the device's key."""
        return (
            packet.protocol == IpProtocol.GRE.number
            and bool(int.from_bytes(packet.payload[:2]) & _HAS_KEY)
            and packet.payload[4:8] == self.wish.key.to_bytes(4)
        )

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> Gre | None:
        """Return the wish of a GRE device with a key; None for any other device."""
        match kind, info:
            case "gre" | "ip6gre", {"ikey": str(key)}:
                return Gre(device=device, key=int(IPv4Address(key)))
            case _:
                return None

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> Gre | None:  # noqa: ARG003
        """Return a GRE with the default key, since a selector doesn't show the key."""
        return Gre() if protocol is IpProtocol.GRE else None


def _kind(cable: Cable) -> str:
    return "gre" if cable.local.address.version == 4 else "ip6gre"
