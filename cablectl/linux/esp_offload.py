"""What of a cable's ESP the NIC does: what is asked for, what NIC and kernel can, what the SAs say.

A flag of whack proves nothing: the kernel takes an SA for a NIC that can't, and keeps it in
software. Only the SA itself tells (`crypto offload parameters` of `ip xfrm state`).
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.wishes import Encapsulation, Offload

# Of ethtool -k: ESP's own, and those that let an overlay's packets be cut up by the NIC.
HARDWARE = "esp-hw-offload"
FEATURES = (
    HARDWARE,
    "esp-tx-csum-hw-offload",
    "tx-esp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
)
NEEDED = (Offload.REQUIRED, Offload.PACKET)  # software is no substitute


class Nic(Struct, frozen=True):
    """A device, and which offload features it has active; without ethtool nothing is known."""

    device: str
    features: dict[str, bool] = {}

    @property
    def can(self) -> bool | None:
        """Whether it does ESP; None if that isn't known."""
        return self.features.get(HARDWARE)


MODULES = ("xfrm_user", "esp4", "esp6", "esp4_offload", "esp6_offload")


def modules(version: int) -> tuple[str, ...]:
    """Return the kernel's modules of IPsec over that version of IP, that of offload last."""
    return tuple(each for each in MODULES if str(10 - version) not in each)


def verdict(sas: Iterable[SecurityAssociation]) -> str:
    """Return where SAs are: crypto, packet, software, mixed, or none if there are none."""
    kinds = {each.offload or "software" for each in sas}
    return kinds.pop() if len(kinds) == 1 else "mixed" if kinds else "none"


class OffloadReport(Struct, frozen=True, kw_only=True):
    """The truth about one cable, called what the names of its connections share.

    `asked` and `encapsulation` are None where no file says; `module` is the kernel's part, `loaded`
    whether it is there.
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
        """Where the SAs are: crypto, packet, software, mixed, or none if there are none."""
        return verdict(self.sas)

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why the NIC doesn't do it all, as far as can be seen."""
        if self.verdict in ("crypto", "packet"):
            return ()
        return tuple(self._reasons()) or (
            () if self.sas else ("there is no SA: the cable isn't up",)
        )

    def _reasons(self) -> Iterator[str]:
        if self.asked is Offload.OFF:
            yield "offload: off"
        if self.nic is None:
            yield "this host has no route to the peer"
        elif self.nic.can is None:
            yield f"what {self.nic.device} can isn't known: ethtool is missing, or doesn't know it"
        elif not self.nic.can:
            yield f"{self.nic.device} has no {HARDWARE}"
        if self.encapsulation is Encapsulation.YES:
            yield "encapsulation: yes: the kernel offloads no ESP in UDP"
        if not self.loaded:
            yield f"{self.module} isn't loaded"
