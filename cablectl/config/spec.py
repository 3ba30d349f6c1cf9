"""The schema of the file: the model's own types, with the defaults of the file."""

from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from cablectl.model.wishes import (
    MAX_ENDPOINTS,
    OVERLAYS,
    VTEP_NETWORKS,
    AnyNetwork,
    Endpoint,
    Geneve,
    Gre,
    Ipsec,
    Mode,
    OverlayKind,
    OverlayWish,
    Subnet,
    Vxlan,
)


class Vtep(Struct, frozen=True, kw_only=True):
    """Where VTEPs have their addresses; without a network where VTEP_NETWORKS says."""

    network: Subnet | None = None


class Spec(Struct, frozen=True, kw_only=True):
    """The file, as it is written; in one with problems a field may be None that never is."""

    version: Annotated[Literal[1], Meta(description="1")]
    mode: Mode = Mode.TUNNEL
    overlay: OverlayKind | None = None
    allow_cleartext: bool = False
    guard: bool = True
    endpoints: Annotated[
        tuple[Endpoint, ...],
        Meta(description="a list of two or more endpoints", min_length=2, max_length=MAX_ENDPOINTS),
    ]
    ipsec: Ipsec | None = None
    vtep: Vtep | None = None
    vxlan: Vxlan | None = None
    gre: Gre | None = None
    geneve: Geneve | None = None

    @property
    def device(self) -> OverlayWish | None:
        """The overlay's settings, the defaults where there are none."""
        if self.overlay not in OVERLAYS:
            return None
        wish: OverlayWish | None = getattr(self, self.overlay)
        return wish or OVERLAYS[self.overlay]()

    def vtep_network(self, version: int) -> AnyNetwork:
        """Return the overlay's network for gateways with that version of IP."""
        return (self.vtep and self.vtep.network) or VTEP_NETWORKS[version]


FIELDS = tuple(field.name for field in structs.fields(Spec))  # in the order of a file
