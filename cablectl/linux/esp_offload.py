"""ESP offload: what the file asks for, what NIC and kernel support, and where the SAs are.

whack's --nic-offload proves nothing: if the NIC can't offload ESP, the kernel accepts the SA and
processes it in software. Only `crypto offload parameters` of `ip xfrm state` shows an offload.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.wishes import Encapsulation, Offload

# Feature names of ethtool -k: ESP offload, and segmentation of an overlay's packets by the NIC.
HARDWARE = "esp-hw-offload"
FEATURES = (
    HARDWARE,
    "esp-tx-csum-hw-offload",
    "tx-esp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
)
NEEDED = (Offload.REQUIRED, Offload.PACKET)  # with these, an SA in software is an error


class Nic(Struct, frozen=True):
    """A device, and whether each offload feature is active; empty if ethtool reports nothing."""

    device: str
    features: dict[str, bool] = {}

    @property
    def can(self) -> bool | None:
        """Whether the NIC offloads ESP; None if that isn't known."""
        return self.features.get(HARDWARE)


MODULES = ("xfrm_user", "esp4", "esp6", "esp4_offload", "esp6_offload")


def modules(version: int) -> tuple[str, ...]:
    """Return the kernel modules for IPsec over IPv4 or IPv6; the offload module is the last."""
    return ("xfrm_user", f"esp{version}", f"esp{version}_offload")


def verdict(sas: Iterable[SecurityAssociation]) -> str:
    """Return what the NIC does of the SAs: crypto, packet, software, mixed; none without an SA."""
    kinds = {sa.offload or "software" for sa in sas}
    if not kinds:
        return "none"
    return kinds.pop() if len(kinds) == 1 else "mixed"


class OffloadReport(Struct, frozen=True, kw_only=True):
    """Where the SAs of one cable are, and what explains it.

    `cable` is the common beginning of the connections' names. `asked` and `encapsulation` are
    None if the report was made without a file. `module` is the kernel's offload module, `loaded`
    whether the kernel has it.
    """

    cable: str
    asked: Offload | None
    encapsulation: Encapsulation | None
    nic: Nic | None
    module: str
    loaded: bool
    sas: tuple[SecurityAssociation, ...]

    @property
    def verdict(self) -> str:
        """What the NIC does of the SAs: crypto, packet, software, mixed; none without an SA."""
        return verdict(self.sas)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why not every SA is on the NIC: the known causes; empty if all SAs are on the NIC."""
        if self.verdict in ("crypto", "packet"):
            return ()
        reasons = tuple(self._reasons())
        if not reasons and not self.sas:
            return ("there is no SA: the cable isn't up",)
        return reasons

    def _reasons(self) -> Iterator[str]:
        if self.asked is Offload.OFF:
            yield "offload: off"
        if self.nic is None:
            yield "this host has no route to the peer"
        elif self.nic.can is None:
            yield (
                f"the offload features of {self.nic.device} aren't known:"
                " ethtool is missing or doesn't report them"
            )
        elif not self.nic.can:
            yield f"{self.nic.device} has no {HARDWARE}"
        if self.encapsulation is Encapsulation.YES:
            yield "encapsulation: yes: the kernel doesn't offload ESP in UDP"
        if not self.loaded:
            yield f"{self.module} isn't loaded"
