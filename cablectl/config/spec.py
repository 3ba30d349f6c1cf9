"""The fields of the file, made of the model's types, with their defaults."""

from typing import Annotated, Literal, assert_never

from msgspec import Meta, Struct, structs

from cablectl.model.wishes import (
    MAX_ENDPOINTS,
    VTEP_NETWORKS,
    AnyNetwork,
    Endpoint,
    Geneve,
    Gre,
    Ipsec,
    Mode,
    Overlay,
    OverlayKind,
    Subnet,
    Vxlan,
)


class Vtep(Struct, frozen=True, kw_only=True):
    """The section `vtep`: a network of None stands for the default in VTEP_NETWORKS."""

    network: Subnet | None = None


class Spec(Struct, frozen=True, kw_only=True):
    """The file as it is written; while it has problems, the fields with a problem are None."""

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
    def device(self) -> Overlay | None:
        """The overlay's settings, or its defaults; None without an overlay."""
        match self.overlay:
            case OverlayKind.VXLAN:
                return self.vxlan or Vxlan()
            case OverlayKind.GRE:
                return self.gre or Gre()
            case OverlayKind.GENEVE:
                return self.geneve or Geneve()
            case OverlayKind.NONE | None:
                return None
            case _:
                assert_never(self.overlay)

    def vtep_network(self, version: int) -> AnyNetwork:
        """Return the network of the VTEPs for gateways of that IP version, 4 or 6."""
        return (self.vtep and self.vtep.network) or VTEP_NETWORKS[version]


FIELDS = tuple(field.name for field in structs.fields(Spec))  # in the order of a file
