"""The VXLAN overlay (RFC 7348): one device for all peers."""

from collections.abc import Mapping
from typing import ClassVar

from cablectl.linux.iproute import ANY_MAC
from cablectl.linux.overlay.protocol import (
    Clash,
    KernelModule,
    LinkInfo,
    VniOverlay,
    versions,
)
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import IANA_GENEVE_PORT, Forwarding, IpProtocol, Vxlan

_MODULE = KernelModule("vxlan", "CONFIG_VXLAN", "vxlan_xmit")

# The flags that decide how a socket receives (VXLAN_F_RCV_FLAGS), in the words of `ip -d -j link`.
_FLAGS = ("external", "vnifilter", "gbp", "gpe", "remcsum_rx", "udp_zero_csum6_rx")


class VxlanOverlay(VniOverlay):
    """A VXLAN device that learns no MACs: the forwarding entries name every peer."""

    keeps_mtu: ClassVar[bool] = True  # Linux refuses another MTU beside other addresses
    modules: ClassVar[Mapping[int, KernelModule]] = {4: _MODULE, 6: _MODULE}

    def __init__(self, wish: Vxlan) -> None:
        self.wish: Vxlan = wish

    def link_type(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link add` from the word `type` on."""
        return (
            *("type", "vxlan", "id", str(self.wish.vni), "local", str(cable.local_underlay)),
            *("dstport", str(self.wish.port_number), "nolearning"),
        )

    def link_change(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link set`; the kernel refuses a port, even the same one."""
        return ("type", "vxlan", "id", str(self.wish.vni), "local", str(cable.local_underlay))

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes of the device, as `ip -d -j link` prints them."""
        local = "local" if cable.local.address.version == 4 else "local6"
        source = {local: str(cable.local_underlay)}
        return "vxlan", {"id": self.wish.vni, "port": self.wish.port_number, **source}

    def clash_on_port(self, cable: Cable, info: LinkInfo, *, up: bool) -> Clash | None:
        """Return a clash with a device that has other flags, or the same VNI (measured, Linux 7.2).

        The kernel shares a socket only between devices whose flags for receiving are equal, and
        opens it when a device comes up. cablectl's device has none of these flags.
        """
        if cable.local.address.version not in versions(info):
            return None
        port, flags = f"UDP {self.wish.port_number}", [flag for flag in _FLAGS if info.get(flag)]
        if flags:
            reason = f"is a vxlan device on {port} with other flags ({', '.join(flags)})"
            return Clash(reason, "port") if up else None
        if info.get("id") == self.wish.vni:
            return Clash(f"is a vxlan device on {port} with VNI {self.wish.vni}", "vni")
        return None

    def fdb_entries(self, cable: Cable) -> tuple[tuple[str, str], ...]:
        """Return an entry for the peer's MAC and, unless forwarding is static, for any MAC."""
        gateway = str(cable.remote_underlay)
        entries = ((cable.mac_of(cable.remote), gateway), (ANY_MAC, gateway))
        return entries[:1] if self.wish.forwarding is Forwarding.STATIC else entries

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> Vxlan | None:
        """Return the wish of a VXLAN device; the device doesn't show the wish's forwarding."""
        match kind, info:
            case "vxlan", {"id": int(vni), "port": int(port)}:
                return Vxlan(device=device, vni=vni, port=port, forwarding=Forwarding.STATIC)
            case _:
                return None

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> Vxlan | None:
        """Return a VXLAN for every UDP port but Geneve's."""
        if protocol is IpProtocol.UDP and port and port != IANA_GENEVE_PORT:
            return Vxlan(port=port)
        return None
