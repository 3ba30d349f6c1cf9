"""The GRE overlay (RFC 2784) with a key (RFC 2890), as iproute2 makes it: a device for one peer."""

from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import ClassVar

from cablectl.linux.overlay.protocol import KernelModule, LinkInfo, Overlay, Packet
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Gre, IpProtocol

_HAS_KEY = 0x2000  # a flag of the header (RFC 2890, section 2)


class GreOverlay(Overlay):
    """A GRE that carries IP, without Ethernet."""

    headers: ClassVar[int] = 4 + 4  # GRE (RFC 2784, section 2.1) and its key (RFC 2890, section 2)
    has_macs: ClassVar[bool] = False
    modules: ClassVar[Mapping[int, KernelModule]] = {
        4: KernelModule("ip_gre", "CONFIG_NET_IPGRE", "ipgre_xmit"),
        6: KernelModule("ip6_gre", "CONFIG_IPV6_GRE", "ip6gre_tunnel_xmit"),
    }

    def __init__(self, wish: Gre) -> None:
        self.wish: Gre = wish

    def link_type(self, cable: Cable) -> Argv:
        """Return the end of `ip link add`; over IPv6 without the option of RFC 2473, 8 bytes."""
        ends = ("local", str(cable.local.address), "remote", str(cable.remote_host))
        return (
            *("type", _kind(cable), *ends, "key", str(self.wish.key)),
            *(("encaplimit", "none") if cable.local.address.version == 6 else ()),
        )

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes; a key is written like an IPv4 address."""
        key = str(IPv4Address(self.wish.key))
        ends = {"local": str(cable.local.address), "remote": str(cable.remote_host)}
        return _kind(cable), {**ends, "ikey": key, "okey": key}

    def guard_match(self, cable: Cable, hosts: str) -> str:  # noqa: ARG002 - the hosts tell it
        """Return the match of the peer and the key, the second word of the header (RFC 2890)."""
        return f"{hosts} meta l4proto gre @th,32,32 {self.wish.key}"

    def matches(self, cable: Cable, packet: Packet) -> bool:  # noqa: ARG002 - the key tells it
        """Tell it by its key."""
        return (
            packet.protocol == IpProtocol.GRE.number
            and bool(int.from_bytes(packet.payload[:2]) & _HAS_KEY)
            and packet.payload[4:8] == self.wish.key.to_bytes(4)
        )

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> Gre | None:
        """Return the wishes that a device answers."""
        match kind, info:
            case "gre" | "ip6gre", {"ikey": str(key)}:
                return Gre(device=device, key=int(IPv4Address(key)))
            case _:
                return None

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> Gre | None:  # noqa: ARG003
        """Take all GRE for the usual one's: a key leaves no trace in a selector."""
        return Gre() if protocol is IpProtocol.GRE else None


def _kind(cable: Cable) -> str:
    return "gre" if cable.local.address.version == 4 else "ip6gre"
