"""All that a file describes: every endpoint, and the cables between them."""

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.model.cable import Cable
from cablectl.model.health_check import HealthCheck
from cablectl.model.vteps import twins_of
from cablectl.model.wishes import (
    AnyNetwork,
    Clamp,
    Encapsulation,
    Endpoint,
    Ipsec,
    Mode,
    Mss,
    Offload,
    OverlayWish,
    Routes,
)

MAX_LISTED = 8  # endpoints that an error names


class Network(Struct, frozen=True, kw_only=True):
    """All endpoints of a file, and what it says of the cables between them."""

    endpoints: tuple[Endpoint, ...]
    mode: Mode
    ipsec: Ipsec
    overlay: OverlayWish | None
    guard: bool
    vtep_network: AnyNetwork
    underlay_network: AnyNetwork
    routes: Routes = Routes()
    mss: Mss = Clamp.AUTO
    health: HealthCheck | None = HealthCheck()

    def named(self, name: str) -> Endpoint:
        """Return the endpoint of that cluster, hostname or address.

        UsageError if there is none, or if two endpoints behind NAT have the address.
        """
        found = [
            endpoint
            for endpoint in self.endpoints
            if name in (endpoint.cluster, endpoint.hostname, str(endpoint.address))
        ]
        if len(found) == 1 or (found and name in (found[0].cluster, found[0].hostname)):
            return found[0]
        which = "more than one endpoint has" if found else "no endpoint has"
        raise UsageError(
            f"{name!r}: {which} that {'address' if found else 'cluster, hostname or address'}",
            hint=f"the endpoints are {self.listed}",
        )

    def held_by(self, addresses: frozenset[str], hostname: str) -> tuple[Endpoint, ...]:
        """Return the endpoints whose address is among `addresses`.

        Of several, it is the one with the `hostname`, with or without domain, if there is one.
        """
        held = tuple(end for end in self.endpoints if str(end.address) in addresses)
        names = {hostname, hostname.partition(".")[0]}
        named = tuple(end for end in held if end.hostname in names)
        return named if len(held) > 1 and len(named) == 1 else held

    def cables(self, local: Endpoint, peers: Sequence[Endpoint] = ()) -> tuple[Cable, ...]:
        """Return the cables from `local` to the peers, or else to all, in the file's order."""
        others = tuple(end for end in self.endpoints if end is not local)
        same = twins_of(self.endpoints)
        shared = self.overlay is not None and self.overlay.serves_all_peers
        return tuple(
            Cable(
                local=local,
                remote=remote,
                mode=self.mode,
                ipsec=self.ipsec,
                overlay=self.overlay,
                guard=self.guard,
                vtep_network=self.vtep_network,
                underlay_network=self.underlay_network,
                others=others if shared else (),
                routes=self.routes,
                mss=self.mss,
                health=self.health,
                twins=same,
            )
            for remote in others
            if not peers or remote in peers
        )

    def encapsulated(self) -> "Network":
        """Return the same network with ESP in UDP; UsageError if the file asks for offload."""
        if self.ipsec.offload in (Offload.REQUIRED, Offload.PACKET):
            raise UsageError(
                "CE_IPSEC_FORCEENCAPS asks for UDP encapsulation, which no NIC offloads",
                hint=f"unset it, or take another value than {self.ipsec.offload} for ipsec.offload",
            )
        return replace(self, ipsec=replace(self.ipsec, encapsulation=Encapsulation.YES))

    @property
    def listed(self) -> str:
        """The endpoints as an error lists them."""
        more = len(self.endpoints) - MAX_LISTED
        listed = ", ".join(map(str, self.endpoints[:MAX_LISTED]))
        return f"{listed} and {more} more" if more > 0 else listed
