"""The fields of the file, made of the model's types, with their defaults."""

from ipaddress import ip_network
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from cablectl.model.health_check import HealthCheck
from cablectl.model.wishes import (
    MAX_ENDPOINTS,
    OVERLAYS,
    UNDERLAY_NETWORKS,
    VTEP_NETWORKS,
    AnyNetwork,
    Clamp,
    Endpoint,
    Geneve,
    Gre,
    Ipip,
    Ipsec,
    Mode,
    Mss,
    OverlayKind,
    OverlayWish,
    Routes,
    Subnet,
    Vxlan,
)


class Vtep(Struct, frozen=True, kw_only=True):
    """The section `vtep`; None stands for the default in VTEP_NETWORKS and UNDERLAY_NETWORKS."""

    network: Subnet | None = None
    underlay: Subnet | None = None


class Spec(Struct, frozen=True, kw_only=True):
    """The file as it is written; while it has problems, the fields with a problem are None."""

    version: Annotated[Literal[1], Meta(description="1")]
    mode: Mode = Mode.TUNNEL
    overlay: OverlayKind | None = None
    allow_cleartext: bool = False
    guard: bool = True
    mss: Annotated[Mss, Meta(description="bytes, 536 to 65495, auto or off")] = Clamp.AUTO
    health: Annotated[
        HealthCheck | None, Meta(description="a mapping with interval and threshold, or off")
    ] = HealthCheck()
    endpoints: Annotated[
        tuple[Endpoint, ...],
        Meta(description="a list of two or more endpoints", min_length=2, max_length=MAX_ENDPOINTS),
    ]
    ipsec: Ipsec | None = None
    vtep: Vtep | None = None
    routes: Routes | None = None
    vxlan: Vxlan | None = None
    gre: Gre | None = None
    geneve: Geneve | None = None
    ipip: Ipip | None = None

    @property
    def device(self) -> OverlayWish | None:
        """The overlay's settings, or its defaults; None without an overlay."""
        if self.overlay not in OVERLAYS:
            return None
        wish: OverlayWish | None = getattr(self, self.overlay)
        return wish or OVERLAYS[self.overlay]()

    def vtep_network(self, version: int) -> AnyNetwork:
        """Return the network of the VTEPs for gateways of that IP version, 4 or 6."""
        return (self.vtep and self.vtep.network) or VTEP_NETWORKS[version]

    def underlay_network(self, version: int) -> AnyNetwork:
        """Return the network of the underlay addresses, which is as large by default."""
        if self.vtep and self.vtep.underlay:
            return self.vtep.underlay
        default, vteps = UNDERLAY_NETWORKS[version], self.vtep_network(version)
        if vteps.version != version:  # a problem of its own
            return default
        return ip_network((default.network_address, vteps.prefixlen), strict=False)


FIELDS = tuple(field.name for field in structs.fields(Spec))  # in the order of a file
