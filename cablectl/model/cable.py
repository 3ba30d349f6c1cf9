"""A cable joins two endpoints, seen from one of them: connections, roles, addresses.

Everything follows from the file, so two ends with the same file mirror each other.
"""

from collections.abc import Mapping
from enum import StrEnum
from functools import cached_property
from typing import assert_never

from msgspec import Struct

from cablectl.model.connection import Connection, End, host_network
from cablectl.model.health_check import HealthCheck
from cablectl.model.psk import (
    NEXT,
    CablePpk,
    CablePsk,
    PskDirectory,
    PskEnv,
    PskFile,
    PskPair,
    pair_name,
)
from cablectl.model.vteps import AnyInterface, host_bits, interface, mac_of, vtep
from cablectl.model.wishes import (
    CABLE,
    PLUTO_PORTS,
    AnyAddress,
    AnyNetwork,
    Clamp,
    Encapsulation,
    Endpoint,
    Initiate,
    Ipsec,
    Mode,
    Mss,
    OverlayWish,
    Routes,
)
from cablectl.model.x509 import Auth, Cert

DETOUR = ".rotate"  # the ending of the clusters' names in a detour


class Role(StrEnum):
    """Which end initiates: a server waits for its client, whose address may change."""

    BIDIRECTIONAL = "bidirectional"
    SERVER = "server"
    CLIENT = "client"


def cable_id(name: str) -> str:
    """Return the id of a cable on its host, by the part that its connections' names share."""
    return name.removeprefix(CABLE).replace(".", "-")


class Detour(Struct, frozen=True):
    """What makes a cable the temporary second path of another cable, while its key is rotated."""

    local: AnyAddress  # the VTEPs of that other cable
    remote: AnyAddress
    used: bool = False  # whether rules have the traffic go through the detour


class Cable(Struct, frozen=True, kw_only=True, dict=True):
    """What joins two endpoints, seen from the local one; costly properties are cached."""

    local: Endpoint
    remote: Endpoint
    mode: Mode
    ipsec: Ipsec
    overlay: OverlayWish | None
    guard: bool
    vtep_network: AnyNetwork
    underlay_network: AnyNetwork
    routes: Routes = Routes()
    mss: Mss = Clamp.AUTO
    health: HealthCheck | None = HealthCheck()  # None: no echoes
    others: tuple[Endpoint, ...] = ()  # all peers of a device that serves all peers
    twins: Mapping[str, int] = {}  # the host bits of clusters that haven't those of an address
    traced: bool = False  # known by its traces on the host alone, without a file
    beside: str = ""  # another device that may carry the cable's traffic, while a key is rotated
    detour: Detour | None = None
    next_key: bool = False  # whether it has the next key or certificate, which replaces the file's

    @property
    def sharing(self) -> tuple[Endpoint, ...]:
        """The peers that the cable's device and guard are for."""
        return self.others or (self.remote,)

    @property
    def guarded(self) -> bool:
        """Whether a guard drops clear text: not in mode none, which sends nothing else."""
        return self.guard and self.mode is not Mode.NONE

    @cached_property
    def id(self) -> str:
        """The name of this cable among the cables of this host."""
        return cable_id(self.remote.cable_name)

    @property
    def bundle(self) -> str:
        """The name of the device if all peers share it, else the cable's id."""
        return self.overlay.device if self.overlay and self.overlay.serves_all_peers else self.id

    @property
    def shares_device(self) -> bool:
        """Whether one device serves all peers."""
        return self.overlay is not None and self.overlay.serves_all_peers

    @property
    def nat(self) -> bool:
        """Whether packets between the two ends pass NAT."""
        return self._through_nat(self.remote)

    def _through_nat(self, peer: Endpoint) -> bool:
        return (self.local.behind_nat or peer.behind_nat) and not self.local.shares_site(peer)

    @property
    def encapsulation(self) -> Encapsulation:
        """Whether ESP travels in UDP: always through NAT, which passes nothing else."""
        return Encapsulation.YES if self.nat else self.ipsec.encapsulation

    @property
    def remote_host(self) -> AnyAddress:
        """The address at which the other end is reached."""
        return self.host_of(self.remote)

    def host_of(self, peer: Endpoint) -> AnyAddress:
        """Return the address at which a peer is reached."""
        public = peer.public_address if self._through_nat(peer) else None
        return public or peer.address

    @property
    def joins_subnets(self) -> bool:
        """Whether its traffic selectors are the subnets: mode tunnel without an overlay."""
        return self.mode is Mode.TUNNEL and self.overlay is None

    @property
    def carries_subnets(self) -> bool:
        """Whether hosts of the subnets reach each other through it."""
        return self.overlay is not None or self.mode is Mode.TUNNEL

    @property
    def routed_networks(self) -> tuple[AnyNetwork, ...]:
        """The networks to which the overlay's routes lead.

        A detour's lead to the other cable's VTEP, too.
        """
        if self.detour is None:
            return self.remote.networks
        return (*self.remote.networks, host_network(self.detour.remote))

    @property
    def local_vtep(self) -> AnyInterface:
        """The local address on the overlay."""
        return self.vtep_of(self.local)

    @property
    def remote_vtep(self) -> AnyInterface:
        """The other end's address on the overlay."""
        return self.vtep_of(self.remote)

    def vtep_of(self, endpoint: Endpoint) -> AnyInterface:
        """Return a gateway's address on the overlay."""
        return vtep(host_bits(endpoint, self.twins), self.vtep_network)

    @property
    def local_underlay(self) -> AnyAddress:
        """The address from which the overlay's packets leave."""
        return self.underlay_of(self.local)

    @property
    def remote_underlay(self) -> AnyAddress:
        """The address to which the overlay's packets go."""
        return self.underlay_of(self.remote)

    def underlay_of(self, endpoint: Endpoint) -> AnyAddress:
        """Return a gateway's address in the overlay's packets.

        In tunnel mode it is one of cablectl's own, since no gateway knows another one by its
        address behind NAT; two of them may even be the same.
        """
        if self.mode is not Mode.TUNNEL:
            return endpoint.address
        return vtep(host_bits(endpoint, self.twins), self.underlay_network).ip

    @property
    def device_addresses(self) -> tuple[AnyInterface, ...]:
        """The addresses of the overlay's device: that of the VTEP and, in tunnel mode, its own."""
        if self.mode is not Mode.TUNNEL:
            return (self.local_vtep,)
        underlay = self.local_underlay
        return (interface(underlay, underlay.max_prefixlen), self.local_vtep)

    def mac_of(self, endpoint: Endpoint) -> str:
        """Return the MAC of a gateway's VTEP, which the other ends compute as well."""
        return mac_of(self.underlay_of(endpoint))

    @property
    def echo_ends(self) -> tuple[AnyAddress, AnyAddress] | None:
        """The source and the target of an echo through the cable; None if it has no such pair.

        Between subnets the file has to name an address of each gateway in its own subnets.
        """
        if self.overlay:
            return self.local_vtep.ip, self.remote_vtep.ip
        if not self.joins_subnets:
            return self.local.address, self.remote_host
        source, target = self.local.health_address, self.remote.health_address
        return (source, target) if source and target else None

    @property
    def role(self) -> Role:
        """The role of the local end; both ends decide alike, as Submariner does."""
        local, remote = self.local.preferred_server, self.remote.preferred_server
        if local is None or remote is None or not (local or remote):
            return Role.BIDIRECTIONAL
        if local and remote:
            local = self.local.cable_name > self.remote.cable_name
        return Role.SERVER if local else Role.CLIENT

    @cached_property
    def connections(self) -> tuple[Connection, ...]:
        """The connections of the cable, in order."""
        if self.mode is Mode.NONE:
            return ()
        return self._between_subnets() if self.joins_subnets else self._between_hosts()

    @property
    def names(self) -> frozenset[str]:
        """The names of these connections."""
        return frozenset(connection.name for connection in self.connections)

    def _between_subnets(self) -> tuple[Connection, ...]:
        """Return one connection for each pair of subnets, as Submariner's driver does."""
        return tuple(
            Connection(
                f"{self.remote.cable_name}-{i}-{j}",
                self.mode,
                self._end(self.local, ours, f"-{i}-{j}"),
                self._end(self.remote, theirs, f"-{j}-{i}"),
            )
            for i, ours in enumerate(self.local.networks)
            for j, theirs in enumerate(self.remote.networks)
        )

    def _between_hosts(self) -> tuple[Connection, ...]:
        """Return one connection, or two for an overlay over UDP.

        A VTEP sends from any port to the overlay's port, so each direction needs its own selector:
        connection 0 has the local end's port, connection 1 the remote end's port.
        """
        port = self.overlay.port if self.overlay else None
        ends = [(port, None), (None, port)] if port else [(None, None)]
        last = len(ends) - 1
        networks = host_network(self.local_underlay), host_network(self.remote_underlay)
        return tuple(
            Connection(
                f"{self.remote.cable_name}-{number}",
                self.mode,
                self._end(self.local, networks[0], f"-{number}", ours),
                self._end(self.remote, networks[1], f"-{last - number}", theirs),
            )
            for number, (ours, theirs) in enumerate(ends)
        )

    def _end(
        self, endpoint: Endpoint, network: AnyNetwork, number: str, port: int | str | None = None
    ) -> End:
        """Return an end of a connection; `number` tells it from the cable's others at that end.

        In tunnel mode a server accepts its client from any address and port. It knows the client
        by its identity, which is another one for each connection.
        """
        is_local, tunnel = endpoint is self.local, self.mode is Mode.TUNNEL
        role = self.role if tunnel else Role.BIDIRECTIONAL
        from_anywhere = role is Role.SERVER and not is_local
        named = tunnel or self.detour or self.ipsec.auth is Auth.CERT
        identity = self._identity(endpoint) if named else ""
        if role is not Role.BIDIRECTIONAL:
            identity = f"@{identity.removeprefix('@')}{number}"
        reached = endpoint.address if is_local else self.remote_host
        any_port = from_anywhere or (role is Role.CLIENT and is_local)
        version = endpoint.address.version
        return End(
            host=None if from_anywhere else reached,
            network=network,
            identity=identity,
            ike_port=None if any_port else self.ike_port(endpoint),
            protocol=self.overlay.protocol(version) if self.overlay else None,
            port=port,
        )

    def _identity(self, endpoint: Endpoint) -> str:
        """Return the identity by which a gateway is known, whatever its address becomes by NAT.

        Between subnets it is the address, as Submariner's driver has it. A certificate has its own.
        """
        if self.ipsec.auth is Auth.CERT:
            return endpoint.certified
        if self.overlay or endpoint.cluster in self.twins:
            return f"@{endpoint.cluster}"
        return str(endpoint.address)

    def ike_port(self, endpoint: Endpoint) -> int:
        """Return the IKE port of an end."""
        return endpoint.ike_port or self.ipsec.ike_port

    @property
    def ike_ports(self) -> tuple[int, ...]:
        """The ports of IKE and of ESP in UDP: pluto's own ports and those of the file."""
        ends = (end for connection in self.connections for end in connection.ends)
        return tuple(sorted({*PLUTO_PORTS, *(end.ike_port for end in ends if end.ike_port)}))

    @property
    def identities(self) -> tuple[tuple[str, str], ...]:
        """The pairs of identities that share a credential, each pair once."""
        named = (
            (
                connection.local.identity or str(connection.local.host),
                connection.remote.identity or str(connection.remote.host),
            )
            for connection in self.connections
        )
        return tuple(dict.fromkeys(named))

    @property
    def certificates(self) -> Cert:
        """Where this cable's certificates are."""
        found = self.ipsec.certificates
        return found.next() if self.next_key else found

    @property
    def psk(self) -> CablePsk:
        """Where this cable's pre-shared key is.

        The next one has the ending NEXT; a key from the environment has no next one.
        """
        psk, ending = self.ipsec.psk, NEXT if self.next_key else ""
        match psk:
            case PskEnv():
                return psk
            case PskFile():
                return PskFile(f"{psk.path}{ending}")
            case PskDirectory():
                return PskPair(psk.path, f"{self.pair}{ending}")
            case _:
                assert_never(psk)

    @property
    def ppk(self) -> CablePpk | None:
        """Where this cable's PPK is; None without a PPK."""
        ppk = self.ipsec.ppk
        return PskPair(ppk.path, self.pair) if isinstance(ppk, PskDirectory) else ppk

    @property
    def pair(self) -> str:
        """The name of the two clusters' keys, which is the PPK_ID as well (RFC 8784)."""
        ends = [end.cluster for end in (self.local, self.remote)]
        return pair_name(*(name.removesuffix(DETOUR) if self.detour else name for name in ends))

    @property
    def initiates(self) -> bool:
        """Whether the local end initiates."""
        both = self.role is Role.BIDIRECTIONAL and self.ipsec.initiate is Initiate.BOTH
        return both or self.begins

    @property
    def traps(self) -> bool:
        """Whether this end has trap policies before it has SAs.

        The end that waits has none if a guard drops its packets meanwhile. A packet that meets a
        trap makes pluto negotiate, and negotiations of both ends that cross leave dead SAs.
        """
        return self.initiates or not self.guarded

    @property
    def begins(self) -> bool:
        """Whether the local end is the one that initiates, if only one does.

        If both ends initiate at once, each connection gets two Child SAs. So by default one end
        initiates: the client, else the end behind NAT, else the end with the lower address.
        """
        if self.role is not Role.BIDIRECTIONAL:
            return self.role is Role.CLIENT
        if self.nat and self.local.behind_nat != self.remote.behind_nat:
            return self.local.behind_nat
        ends = self.local, self.remote
        local, remote = ((int(end.address), end.cluster) for end in ends)
        return local < remote
