"""The Geneve overlay (RFC 8926): a device for one peer."""

from collections.abc import Mapping
from typing import ClassVar

from cablectl.linux.overlay.protocol import Clash, KernelModule, LinkInfo, VniOverlay
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import IANA_GENEVE_PORT, Geneve, IpProtocol

_MODULE = KernelModule("geneve", "CONFIG_GENEVE", "geneve_xmit")


class GeneveOverlay(VniOverlay):
    """A Geneve device without options."""

    leaves_by_route: ClassVar[bool] = True
    modules: ClassVar[Mapping[int, KernelModule]] = {4: _MODULE, 6: _MODULE}

    def __init__(self, wish: Geneve) -> None:
        self.wish: Geneve = wish

    def link_type(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link add` from the word `type` on."""
        return (
            *("type", "geneve", "id", str(self.wish.vni), "remote", str(cable.remote_underlay)),
            *("dstport", str(self.wish.port)),
        )

    def link_change(self, cable: Cable) -> Argv:
        """Return the arguments of `ip link set`; the kernel refuses a port, even the same one."""
        return ("type", "geneve", "id", str(self.wish.vni), "remote", str(cable.remote_underlay))

    def link_info(self, cable: Cable) -> tuple[str, dict[str, object]]:
        """Return kind and attributes of the device, as `ip -d -j link` prints them."""
        remote = "remote" if cable.remote_underlay.version == 4 else "remote6"
        peer = {remote: str(cable.remote_underlay)}
        return "geneve", {"id": self.wish.vni, "port": self.wish.port, **peer}

    def clash_on_port(self, cable: Cable, info: LinkInfo, *, up: bool) -> Clash | None:  # noqa: ARG002
        """Return a clash with an external device, or one for the same peer (measured, Linux 7.2).

        The kernel refuses to create the device, even if the other device is down.
        """
        port = f"UDP {self.wish.port}"
        if info.get("external"):
            return Clash(f"is a geneve device on {port} with other flags (external)", "port")
        _, own = self.link_info(cable)
        if all(info.get(key) == own[key] for key in own):
            reason = f"is a geneve device on {port} with VNI {self.wish.vni} for the same peer"
            return Clash(reason, "vni")
        return None

    @classmethod
    def from_link(cls, device: str, kind: str, info: LinkInfo) -> Geneve | None:
        """Return the wish of a Geneve device; None for any other device."""
        match kind, info:
            case "geneve", {"id": int(vni), "port": int(port)}:
                return Geneve(device=device, vni=vni, port=port)
            case _:
                return None

    @classmethod
    def from_selector(cls, protocol: IpProtocol, port: int | None) -> Geneve | None:
        """Return a Geneve for Geneve's standard UDP port only."""
        if protocol is IpProtocol.UDP and port == IANA_GENEVE_PORT:
            return Geneve(port=port)
        return None
