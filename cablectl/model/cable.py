"""What joins two endpoints, seen from one of them: its connections, its roles, its addresses.

All of it follows from what the file says, and two ends that read the same file mirror each other.
"""

from enum import StrEnum
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Interface, IPv6Network

from msgspec import Struct

from cablectl.model.wishes import (
    CABLE,
    IANA_VXLAN_PORT,
    PLUTO_PORTS,
    AnyAddress,
    AnyNetwork,
    Encapsulation,
    Endpoint,
    Initiate,
    IpProtocol,
    Ipsec,
    Mode,
    OverlayWish,
)

AnyInterface = IPv4Interface | IPv6Interface


class Role(StrEnum):
    """Who is reached by whom: a server waits for the client, whose address may change."""

    BIDIRECTIONAL = "bidirectional"
    SERVER = "server"
    CLIENT = "client"


def vtep(address: AnyAddress, network: AnyNetwork) -> AnyInterface:
    """Return a gateway's address on the overlay: its own, with the network's bits in front."""
    host = int(address) & int(network.hostmask)
    if isinstance(network, IPv4Network):
        return IPv4Interface((int(network.network_address) | host, network.prefixlen))
    return IPv6Interface((int(network.network_address) | host, network.prefixlen))


def cable_id(called: str) -> str:
    """Return what tells a cable from the others of a host, by what its connections are called."""
    return called.removeprefix(CABLE).replace(".", "-")


class End(Struct, frozen=True, kw_only=True):
    """One end of a connection: who speaks IKE, and which of its traffic is protected.

    `host` of None is any host; without `identity` it is the host's address; `ike_port` of None is
    pluto's own; `network` is the host itself in transport mode; a `protocol` or `port` of None is
    any.
    """

    host: AnyAddress | None
    network: AnyNetwork
    identity: str = ""
    ike_port: int | None = None
    protocol: IpProtocol | None = None
    port: int | str | None = None

    @property
    def port_number(self) -> int | None:
        """The port as the kernel has it."""
        return IANA_VXLAN_PORT if isinstance(self.port, str) else self.port


class Connection(Struct, frozen=True):
    """One of the cable's connections, as pluto knows it."""

    name: str
    mode: Mode
    local: End
    remote: End

    @property
    def routed(self) -> bool:
        """Whether its traffic is caught before there are SAs: not if the peer may be anywhere."""
        return self.remote.host is not None

    @property
    def protects(self) -> str:
        """Whose traffic it carries, in words."""
        if self.local.port:
            return "what the local VTEP receives"
        if self.remote.port:
            return "what the local VTEP sends"
        return f"{self.local.network} and {self.remote.network}"


class Cable(Struct, frozen=True, kw_only=True, dict=True):
    """What joins two endpoints, seen from the local one.

    What of it is asked for again and again, as for each of a thousand cables, is kept.
    """

    local: Endpoint
    remote: Endpoint
    mode: Mode
    ipsec: Ipsec
    overlay: OverlayWish | None
    guard: bool
    vtep_network: AnyNetwork

    @property
    def guarded(self) -> bool:
        """Whether a guard keeps clear text out and in: not where nothing else is sent."""
        return self.guard and self.mode is not Mode.NONE

    @cached_property
    def id(self) -> str:
        """What tells this cable from the others of this host."""
        return cable_id(self.remote.cable_name)

    @property
    def bundle(self) -> str:
        """What tells it, with the cables that share its device, from the others of this host."""
        return self.overlay.device if self.overlay and self.overlay.serves_all_peers else self.id

    @property
    def shares_device(self) -> bool:
        """Whether one device serves all peers: the only kind that Linux gives more than one."""
        return self.overlay is not None and self.overlay.serves_all_peers

    @property
    def nat(self) -> bool:
        """Whether either end is behind NAT."""
        return self.local.behind_nat or self.remote.behind_nat

    @property
    def encapsulation(self) -> Encapsulation:
        """What IPsec is told: where there is NAT, nothing but UDP gets through."""
        return Encapsulation.YES if self.nat else self.ipsec.encapsulation

    @property
    def remote_host(self) -> AnyAddress:
        """The address at which the other end is reached."""
        return (
            (self.remote.public_address or self.remote.address)
            if self.nat
            else (self.remote.address)
        )

    @property
    def local_vtep(self) -> AnyInterface:
        """The local address on the overlay."""
        return vtep(self.local.address, self.vtep_network)

    @property
    def remote_vtep(self) -> AnyInterface:
        """The other end's address on the overlay."""
        return vtep(self.remote.address, self.vtep_network)

    @property
    def role(self) -> Role:
        """What the local end is, decided as Submariner does, and the same from either end."""
        ours, theirs = self.local.preferred_server, self.remote.preferred_server
        if ours is None or theirs is None or not (ours or theirs):
            return Role.BIDIRECTIONAL
        if ours and theirs:
            ours = self.local.cable_name > self.remote.cable_name
        return Role.SERVER if ours else Role.CLIENT

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """The connections that pluto has to have for this cable, in their order."""
        if self.mode is Mode.NONE:
            return ()
        return self._tunnels() if self.mode is Mode.TUNNEL else self._transports()

    @property
    def names(self) -> frozenset[str]:
        """The names of these connections."""
        return frozenset(each.name for each in self.connections)

    def _tunnels(self) -> tuple[Connection, ...]:
        """One connection for each pair of subnets, the way Submariner's driver has them."""

        def pair(i: int, j: int, ours: AnyNetwork, theirs: AnyNetwork) -> Connection:
            ids = (str(self.local.address), str(self.remote.address))
            if self.role is not Role.BIDIRECTIONAL:
                ids = (f"@{ids[0]}-{i}-{j}", f"@{ids[1]}-{j}-{i}")
            server, client = self.role is Role.SERVER, self.role is Role.CLIENT
            return Connection(
                f"{self.remote.cable_name}-{i}-{j}",
                Mode.TUNNEL,
                End(
                    host=self.local.address,
                    network=ours,
                    identity=ids[0],
                    ike_port=None if client else self.ike_port(self.local),
                ),
                End(
                    host=None if server else self.remote_host,
                    network=theirs,
                    identity=ids[1],
                    ike_port=None if server else self.ike_port(self.remote),
                ),
            )

        return tuple(
            pair(i, j, ours, theirs)
            for i, ours in enumerate(self.local.networks)
            for j, theirs in enumerate(self.remote.networks)
        )

    def _transports(self) -> tuple[Connection, ...]:
        """One connection, or one for each direction in which an overlay over UDP may send.

        A VTEP sends from any port to the overlay's, so each end's overlay port needs a selector of
        its own: in connection 0 it is the local end's, in connection 1 the remote end's.
        """
        port = self.overlay.port if self.overlay else None
        version = self.local.address.version
        protocol = self.overlay.protocol(version) if self.overlay else None

        def end(endpoint: Endpoint, port: int | str | None) -> End:
            return End(
                host=endpoint.address,
                network=host_network(endpoint.address),
                ike_port=self.ike_port(endpoint),
                protocol=protocol,
                port=port,
            )

        ends = [(port, None), (None, port)] if port else [(None, None)]
        return tuple(
            Connection(
                f"{self.remote.cable_name}-{number}",
                Mode.TRANSPORT,
                end(self.local, ours),
                end(self.remote, theirs),
            )
            for number, (ours, theirs) in enumerate(ends)
        )

    def ike_port(self, endpoint: Endpoint) -> int:
        """Return the port at which that end speaks IKE."""
        return endpoint.ike_port or self.ipsec.ike_port

    @property
    def ike_ports(self) -> tuple[int, ...]:
        """The ports that IKE, and ESP in UDP, go to: pluto's own and those of the file."""
        ends = (end for each in self.connections for end in (each.local, each.remote))
        return tuple(sorted({*PLUTO_PORTS, *(end.ike_port for end in ends if end.ike_port)}))

    @property
    def identities(self) -> tuple[tuple[str, str], ...]:
        """Who the pre-shared key is for: the two ends of every connection, each pair once."""
        named = (
            (
                each.local.identity or str(each.local.host),
                each.remote.identity or str(each.remote.host),
            )
            for each in self.connections
        )
        return tuple(dict.fromkeys(named))

    @property
    def initiates(self) -> bool:
        """Whether the local end starts the negotiation.

        Two ends that start at the same moment leave two Child SAs for each connection, so by
        default only one does: the client; else the one behind NAT, which can't be reached; else
        the one with the lower address.
        """
        if self.role is not Role.BIDIRECTIONAL:
            return self.role is Role.CLIENT
        if self.ipsec.initiate is Initiate.BOTH:
            return True
        if self.local.behind_nat != self.remote.behind_nat:
            return self.local.behind_nat
        return int(self.local.address) < int(self.remote.address)


def host_network(address: AnyAddress) -> AnyNetwork:
    """Return the network that holds one host alone."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)
