"""Finds cables that cablectl made here for an earlier gateway of a peer's cluster.

After a failover the file has another address for the cluster. In tunnel mode the old cable has the
traffic selectors of the new one; an overlay's device for one peer is needed for the new gateway.
Another file may have a second gateway of the same cluster, so a cable counts only if it is in the
way: its subnets overlap, or no other device of cablectl leads to its gateway.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from ipaddress import ip_address, ip_network

from msgspec import Struct
from msgspec.structs import replace

from cablectl.libreswan import pluto
from cablectl.libreswan.pluto import LoadedConnection
from cablectl.libreswan.traffic_selectors import Selectors
from cablectl.model.cable import Cable, cable_id
from cablectl.model.wishes import AnyAddress, Mode


class EarlierGateway(Struct, frozen=True):
    """The cable to a gateway that the peer's cluster had before."""

    id: str
    address: str
    connections: tuple[str, ...] = ()  # the names of those that are loaded


class Index:
    """The cables that cablectl made here by cluster, without those of the file."""

    def __init__(
        self,
        made_here: Iterable[str],
        cables: tuple[Cable, ...],
        connections: dict[str, LoadedConnection],
        held: frozenset[str],
    ) -> None:
        self._connections, self._held = connections, held
        self._names: dict[str, list[str]] = defaultdict(list)
        for name, loaded in connections.items():
            if owner := pluto.cable_of(name, loaded):
                self._names[cable_id(owner)].append(name)
        self._by_cluster: dict[str, list[tuple[str, AnyAddress]]] = defaultdict(list)
        for known in sorted(set(made_here) - {cable.id for cable in cables}):
            for cluster, address in readings(known):
                self._by_cluster[cluster].append((known, address))

    def of(self, cable: Cable, other_peers: frozenset[str]) -> Iterator[EarlierGateway]:
        """Yield the earlier gateways of the cable's peer; `other_peers` have devices of their own.

        A gateway without a loaded connection may be one of another file.
        """
        if not cable.joins_subnets and (not cable.overlay or cable.shares_device):
            return
        for known, address in self._by_cluster.get(cable.remote.cluster.replace(".", "-"), ()):
            if address.version != cable.local.address.version:
                continue
            if str(cable_to(cable, address).remote_underlay) in other_peers:
                continue
            names = tuple(self._names.get(known, ()))
            if all(
                _leads_to(cable, known, address, self._connections[name].selectors)
                and self._is_in_the_way(cable, self._connections[name].selectors)
                for name in names
            ):
                yield EarlierGateway(known, str(address), names)

    def _is_in_the_way(self, cable: Cable, ends: Selectors | None) -> bool:
        """Tell whether a connection is in the way, also that of an address that this host lost."""
        if ends is None:
            return False
        is_own = ends.local.host == str(cable.local.address) or ends.local.host not in self._held
        return is_own and _is_for_the_same_traffic(cable, ends)


def cable_to(cable: Cable, address: AnyAddress | str) -> Cable:
    """Return the cable as it was while the peer had another address."""
    remote = replace(cable.remote, address=ip_address(str(address)), public_address=None)
    return replace(cable, remote=remote)


def readings(known: str) -> Iterator[tuple[str, AnyAddress]]:
    """Yield the possible clusters and addresses of a cable's id: both may contain dashes."""
    words = known.split("-")
    for i in range(1, len(words)):
        for separator in (".", ":"):
            try:
                yield "-".join(words[:i]), ip_address(separator.join(words[i:]))
            except ValueError:
                continue


def _leads_to(cable: Cable, known: str, address: AnyAddress, ends: Selectors | None) -> bool:
    """Tell whether a connection of the cable with that id leads to the address.

    In tunnel mode pluto may know the gateway by its public address. Then the connection leads to
    any address that the id may have.
    """
    host = ends.remote.host if ends else None
    if host in (str(address), None):
        return True
    return cable.mode is Mode.TUNNEL and all(host != str(other) for _, other in readings(known))


def _is_for_the_same_traffic(cable: Cable, ends: Selectors) -> bool:
    if not cable.joins_subnets:
        traffic = (ends.local.protocol, ends.local.port, ends.remote.port)
        wanted = map(pluto.selectors, cable.connections)
        return traffic in ((end.local.protocol, end.local.port, end.remote.port) for end in wanted)
    local, remote = ip_network(ends.local.network), ip_network(ends.remote.network)
    return any(
        local.version == ours.version and local.overlaps(ours) for ours in cable.local.networks
    ) and any(
        remote.version == theirs.version and remote.overlaps(theirs)
        for theirs in cable.remote.networks
    )
