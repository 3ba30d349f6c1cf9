"""A mesh of many gateways by calculation, from what was measured of one: see docs/performance.md.

Run `python -m benchmarks.internet`; other measurements go in by changing `MEASURED`.
"""

from __future__ import annotations

from dataclasses import dataclass

GATEWAYS = (10, 100, 1000, 2000)
# Exchanges of RFC 7296: two messages each, and every one of them is seen at both ends.
CREATE_CHILD_SA = 2  # makes the new SA
INFORMATIONAL = 2  # deletes the old one, or asks whether the peer is there


@dataclass(frozen=True)
class Lifetimes:
    """When pluto renews, in seconds: what `ipsec whack --status` says of a connection."""

    ike: float = 28800.0
    child: float = 28800.0
    margin: float = 540.0  # before the end,
    fuzz: float = 1.0  # and by chance up to this much earlier, as a part of the margin
    dpd: float = 30.0

    def between(self, life: float) -> float:
        """Return how many seconds pass on average from one rekeying to the next.

        The end that initiated begins early, by the margin and a random part of it.
        """
        return life - self.margin * (1 + self.fuzz / 2)


@dataclass(frozen=True)
class Costs:
    """What one of each takes, in bytes: measured by benchmarks/memory.py."""

    pluto: float  # with nothing loaded
    connection: float  # loaded and routed, in pluto
    established: float  # what its SAs add in pluto, a part of the IKE SA's included
    sa: float  # one direction, in the kernel
    policy: float  # in the kernel


@dataclass(frozen=True)
class Gateway:
    """What one gateway of a mesh has, and has to do: counts, rates per second, bytes."""

    peers: int
    connections: int
    ike_sas: int
    sas: int
    policies: int
    ike_rekeys: float
    child_rekeys: float
    messages: float
    dpd_messages: float
    pluto: float
    kernel: float


def gateway(
    peers: int, costs: Costs, lives: Lifetimes, *, connections: int = 2, policies: int = 2
) -> Gateway:
    """Return what a gateway with so many peers has.

    Of each cable there are so many `connections` (VXLAN and Geneve: 2, GRE: 1), with so many
    `policies` each; a Child SA is one SA in each direction, and a cable has one IKE SA. DPD asks
    a peer only if nothing came from it: `dpd_messages` is what a silent mesh says, at most.
    """
    all_connections = peers * connections
    ike_rekeys = peers / lives.between(lives.ike)
    child_rekeys = all_connections / lives.between(lives.child)
    return Gateway(
        peers=peers,
        connections=all_connections,
        ike_sas=peers,
        sas=2 * all_connections,
        policies=policies * all_connections,
        ike_rekeys=ike_rekeys,
        child_rekeys=child_rekeys,
        messages=(ike_rekeys + child_rekeys) * (CREATE_CHILD_SA + INFORMATIONAL),
        # Each end of a cable asks for itself.
        dpd_messages=2 * peers * INFORMATIONAL / lives.dpd,
        pluto=costs.pluto + all_connections * (costs.connection + costs.established),
        kernel=2 * all_connections * costs.sa + policies * all_connections * costs.policy,
    )
