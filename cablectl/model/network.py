"""All that a file describes: every endpoint, and the cables between them."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.model.cable import Cable
from cablectl.model.wishes import (
    AnyNetwork,
    Encapsulation,
    Endpoint,
    Ipsec,
    Mode,
    Offload,
    OverlayWish,
)

MAX_LISTED = 8  # endpoints that an error names


class Network(Struct, frozen=True, kw_only=True):
    """What the file describes."""

    endpoints: tuple[Endpoint, ...]
    mode: Mode
    ipsec: Ipsec
    overlay: OverlayWish | None
    guard: bool
    vtep_network: AnyNetwork

    def named(self, name: str, option: str = "--local") -> Endpoint:
        """Return the endpoint of that cluster, hostname or address; UsageError if there is none."""
        for endpoint in self.endpoints:
            if name in (endpoint.cluster, endpoint.hostname, str(endpoint.address)):
                return endpoint
        raise UsageError(
            f"{option} {name!r}: no endpoint has that cluster, hostname or address",
            hint=f"the endpoints are {self._listed}",
        )

    def held_by(self, addresses: frozenset[str]) -> Endpoint:
        """Return the one endpoint whose address is among `addresses`; else UsageError."""
        found = [endpoint for endpoint in self.endpoints if str(endpoint.address) in addresses]
        if len(found) == 1:
            return found[0]
        what = "more than one endpoint" if found else "no endpoint"
        raise UsageError(
            f"this host holds the address of {what}",
            hint=f"say which end it is with --local: {self._listed}",
        )

    def cables(self, local: Endpoint, peers: Sequence[str] = ()) -> tuple[Cable, ...]:
        """Return the cables from `local` to the peers, or else to all, in the file's order.

        A peer is named by its cluster, hostname or address. UsageError if there is none.
        """
        named = [self.named(name, "--peer") for name in peers]
        if local in named:
            raise UsageError(
                f"--peer {peers[named.index(local)]!r} is the local end, {local}",
                hint="name another one, or say which end this is with --local",
            )
        return tuple(
            Cable(
                local=local,
                remote=remote,
                mode=self.mode,
                ipsec=self.ipsec,
                overlay=self.overlay,
                guard=self.guard,
                vtep_network=self.vtep_network,
            )
            for remote in self.endpoints
            if remote is not local and (not named or remote in named)
        )

    def encapsulated(self) -> "Network":
        """Return the same with ESP in UDP, whatever the file says; UsageError if it can't be."""
        if self.ipsec.offload in (Offload.REQUIRED, Offload.PACKET):
            raise UsageError(
                "CE_IPSEC_FORCEENCAPS asks for UDP encapsulation, which no NIC offloads",
                hint=f"unset it, or take another value than {self.ipsec.offload} for ipsec.offload",
            )
        return replace(self, ipsec=replace(self.ipsec, encapsulation=Encapsulation.YES))

    @property
    def _listed(self) -> str:
        more = len(self.endpoints) - MAX_LISTED
        listed = ", ".join(map(str, self.endpoints[:MAX_LISTED]))
        return f"{listed} and {more} more" if more > 0 else listed
