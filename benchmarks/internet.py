"""Calculates the cost of a large mesh from measurements of one gateway; see docs/performance.md.

Run `python -m benchmarks.internet`. For another machine, replace the measurements in `MEASURED`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

GATEWAYS = (10, 100, 1000, 2000)
# Connections per cable, and policies per connection; tunnel mode has one more, for forwarding.
MODES = {
    "GRE over transport": (1, 2),
    "VXLAN or Geneve over transport": (2, 2),
    "tunnel mode, 3 subnets each": (9, 3),
}
# The messages of each exchange (RFC 7296); both ends handle every message.
CREATE_CHILD_SA = 2  # creates the new SA
INFORMATIONAL = 2  # deletes the old SA, or probes the peer
BEGIN = 4  # IKE_SA_INIT and IKE_AUTH, which also creates the first Child SA


@dataclass(frozen=True)
class Lifetimes:
    """The lifetimes of a connection in seconds, as `ipsec whack --status` prints them."""

    ike: float = 28800.0
    child: float = 28800.0
    margin: float = 540.0  # the rekeying begins this long before the end
    fuzz: float = 1.0  # the largest random addition to the margin, as a fraction of the margin
    dpd: float = 30.0

    def between(self, life: float) -> float:
        """Return the mean seconds from one rekeying to the next.

        The initiator rekeys early, by the margin and a random fraction of the margin.
        """
        return life - self.margin * (1 + self.fuzz / 2)


@dataclass(frozen=True)
class Costs:
    """The memory of one object of each kind, in bytes, measured by benchmarks/memory.py."""

    pluto: float  # pluto without connections
    connection: float  # in pluto, loaded and routed
    ike_sa: float  # in pluto
    child_sa: float  # in pluto
    sa: float  # in the kernel, one direction
    policy: float  # in the kernel


@dataclass(frozen=True)
class Gateway:
    """The objects, the work and the memory of one gateway of a mesh."""

    peers: int
    connections: int
    ike_sas: int
    sas: int
    policies: int
    ike_rekeys: float  # per second
    child_rekeys: float  # per second
    messages: float  # of rekeying, per second
    dpd_messages: float  # per second, in a mesh without traffic
    start: int  # messages until every cable is up
    pluto: float  # bytes
    kernel: float  # bytes


def gateway(
    peers: int, costs: Costs, lives: Lifetimes, *, connections: int = 2, policies: int = 2
) -> Gateway:
    """Return the costs of a gateway with that many peers.

    `connections` are per cable (VXLAN and Geneve: 2, GRE: 1), `policies` per connection.
    A cable has one IKE SA. A Child SA is one SA in each direction.
    DPD probes only a silent peer, so `dpd_messages` is the maximum.
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
        # Both ends of a cable probe.
        dpd_messages=2 * peers * INFORMATIONAL / lives.dpd,
        start=peers * (BEGIN + (connections - 1) * CREATE_CHILD_SA),
        pluto=costs.pluto
        + peers * costs.ike_sa
        + all_connections * (costs.connection + costs.child_sa),
        kernel=2 * all_connections * costs.sa + policies * all_connections * costs.policy,
    )


# Measured by benchmarks/memory.py on Libreswan 4.10 and Linux 6.1; see docs/performance.md.
MEASURED = Costs(
    pluto=13.0 * 2**20,
    connection=12.8 * 1024,
    ike_sa=77 * 1024,
    child_sa=10 * 1024,
    sa=6.39 * 1024,
    policy=1.01 * 1024,
)


def main() -> None:
    """Print the costs of one gateway, for several sizes of the mesh and for each mode."""
    sizes = {f"{count:,}": gateway(count - 1, MEASURED, Lifetimes()) for count in GATEWAYS}
    print(table("VXLAN, one gateway of", sizes))
    modes = {
        name: gateway(999, MEASURED, Lifetimes(), connections=connections, policies=policies)
        for name, (connections, policies) in MODES.items()
    }
    print(table("one gateway of 1,000", modes))


def table(first: str, meshes: Mapping[str, Gateway]) -> str:
    """Return a table of Markdown with a column for each mesh."""
    lines = [[first, *meshes], ["---", *("---:" for _ in meshes)]]
    lines += [[label, *map(show, meshes.values())] for label, show in ROWS.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def mib(size: float) -> str:
    """Return bytes as MiB."""
    return f"{size / 2**20:,.0f} MiB"


def one_in(rate: float) -> str:
    """Return a rate in words: the seconds between two events, or the events per second."""
    return f"one in {1 / rate:,.0f} s" if rate < 1 else f"{rate:.1f} a second"


ROWS: dict[str, Callable[[Gateway], str]] = {
    "connections loaded": lambda mesh: f"{mesh.connections:,}",
    "IKE SAs": lambda mesh: f"{mesh.ike_sas:,}",
    "SAs in the kernel": lambda mesh: f"{mesh.sas:,}",
    "policies in the kernel": lambda mesh: f"{mesh.policies:,}",
    "IKE SA rekeyed": lambda mesh: one_in(mesh.ike_rekeys),
    "Child SA rekeyed": lambda mesh: one_in(mesh.child_rekeys),
    "IKE messages of these": lambda mesh: f"{mesh.messages:.2f} a second",
    "of dead-peer detection, at most": lambda mesh: f"{mesh.dpd_messages:.1f} a second",
    "messages to bring all up": lambda mesh: f"{mesh.start:,}",
    "pluto": lambda mesh: mib(mesh.pluto),
    "kernel, SAs and policies": lambda mesh: mib(mesh.kernel),
}


if __name__ == "__main__":
    main()
