"""A mesh of many gateways by calculation, from what was measured of one: see docs/performance.md.

Run `python -m benchmarks.internet`, with other measurements in `MEASURED` for another machine.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

GATEWAYS = (10, 100, 1000, 2000)
# Connections of a cable, and policies of a connection: tunnel mode has one for forwarding as well.
MODES = {
    "GRE over transport": (1, 2),
    "VXLAN or Geneve over transport": (2, 2),
    "tunnel mode, 3 subnets each": (9, 3),
}
# Exchanges of RFC 7296: two messages each, and every one of them is seen at both ends.
CREATE_CHILD_SA = 2  # makes the new SA
INFORMATIONAL = 2  # deletes the old one, or asks whether the peer is there
BEGIN = 4  # IKE_SA_INIT and IKE_AUTH, which makes the first Child SA as well


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
    ike_sa: float  # in pluto
    child_sa: float  # in pluto
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
    start: int  # messages until all is up
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
        start=peers * (BEGIN + (connections - 1) * CREATE_CHILD_SA),
        pluto=costs.pluto
        + peers * costs.ike_sa
        + all_connections * (costs.connection + costs.child_sa),
        kernel=2 * all_connections * costs.sa + policies * all_connections * costs.policy,
    )


# Libreswan 4.10 and Linux 6.1, as benchmarks/memory.py measured them; see docs/performance.md.
MEASURED = Costs(
    pluto=13.0 * 2**20,
    connection=12.8 * 1024,
    ike_sa=77 * 1024,
    child_sa=10 * 1024,
    sa=6.39 * 1024,
    policy=1.01 * 1024,
)


def main() -> None:
    """Print what one gateway has: of meshes of several sizes, and of a thousand by mode."""
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
    lines += [[what, *map(show, meshes.values())] for what, show in ROWS.items()]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def mib(size: float) -> str:
    """Return bytes as MiB."""
    return f"{size / 2**20:,.0f} MiB"


def one_in(rate: float) -> str:
    """Return how many seconds pass from one to the next, or how many come in a second."""
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
