"""Which gateways are in one site: they reach each other at their own addresses, without NAT.

Submariner tries both addresses of each peer, and its Gateway resource says which one it uses. That
comes first. Gateways behind one public address are in one site too, because a router often can't
lead packets from inside back to an address of its own (RFC 4787, section 6).
"""

from collections import defaultdict
from ipaddress import ip_address
from typing import Any

from msgspec import Struct

from cablectl.config.reader import Path, Place
from cablectl.config.submariner.equivalent import Equivalent, as_bool
from cablectl.config.submariner.families import same_address
from cablectl.config.submariner.objects import Field, Object
from cablectl.config.values import legible
from cablectl.model.network import MAX_LISTED
from cablectl.model.wishes import dashed

CONNECTED = "connected"  # the status of a connection that is up
_CONNECTIONS = ("status", "connections")
_BY_GATEWAYS = "as their Gateways say"
_SAME_PAIR = "about the same two gateways; give the newer Gateway alone"

Pair = tuple[int, int]  # the indices of two ends


class End(Struct, frozen=True):
    """What tells where a gateway is."""

    cluster: str
    cable_name: str
    private: Field | None
    public: Field | None
    natted: bool  # Submariner reaches it at `public` if it can't find out more

    @property
    def translated(self) -> bool:
        """Whether it has a public address besides its own."""
        private = self.private.value if self.private else None
        return self.public is not None and not same_address(self.public.value, private)

    @property
    def outside(self) -> str:
        """Its public address in one spelling; empty if it has none besides its own."""
        try:
            return (
                str(ip_address(str(self.public.value))) if self.public and self.translated else ""
            )
        except ValueError:
            return ""


class Use(Struct, frozen=True):
    """At which address a gateway reaches another, and whether there is NAT in between."""

    private: bool
    nat: bool
    place: Place

    @property
    def within_site(self) -> bool:
        """Whether the two are in one site."""
        return self.private and not self.nat


class Sites:
    """Divides the gateways into sites; `nat` says whether any is reached at a public address."""

    def __init__(self, file: Equivalent, ends: list[End]) -> None:
        self._file, self._ends = file, ends
        self._uses = _uses(file, ends)
        self.nat = any(end.natted for end in ends) or any(
            not use.private for use in self._uses.values()
        )
        self._parents = list(range(len(ends)))
        for (i, j), use in self._uses.items():
            if use.within_site:
                self._join(i, j)
        for members in self._behind_one_address():
            for other in members[1:]:
                self._join(members[0], other)
        self._members: dict[int, list[int]] = defaultdict(list)
        for i in range(len(ends)):
            self._members[self._root(i)].append(i)

    @property
    def only_one(self) -> bool:
        """Whether all gateways are in one site, as far as is known."""
        return len(self._members) == 1 and not self._apart()

    def tell(self) -> None:
        """Add a note for each site, and tell of each pair that the sites can't express."""
        for (i, j), use in self._apart().items():
            if self._root(i) == self._root(j):
                self._file.problems.append((use.place, self._exception(i, j)))
        public = self.public()
        for (i, j), use in self._uses.items():
            if use.private and public[j] and self._root(i) != self._root(j):
                one, other = self._name(i), self._name(j)
                self._file.notes.append(
                    f"{one} reaches {other} at its public_ip, as other gateways do; its Gateway"
                    " says private_ip, through NAT"
                )
        self._tell_sites()

    def _tell_sites(self) -> None:
        for members in self._shared():
            ends = [self._ends[i] for i in members]
            fact = f"{_listed(ends)} reach each other at their private_ip"
            public = _common_outside(ends)
            why = f"since they have the same public_ip, {public}" if public else _BY_GATEWAYS
            start = "nat_enabled is ignored: " if len(self._members) == 1 else ""
            self._file.notes.append(f"{start}{fact}, {why}")

    def names(self) -> list[str | None]:
        """Return the name of the site of each gateway; None if it is alone there."""
        names: list[str | None] = [None] * len(self._ends)
        used = set()
        for number, members in enumerate(self._shared(), 1):
            public = _common_outside([self._ends[i] for i in members])
            name = f"site-{dashed(ip_address(public))}" if public else ""
            if not name or name in used:
                name = f"site-{number}"
            used.add(name)
            for i in members:
                names[i] = name
        return names

    def _shared(self) -> list[list[int]]:
        """Return the gateways of each site that has more than one."""
        return [members for members in self._members.values() if len(members) > 1]

    def public(self) -> list[bool]:
        """Tell for each gateway whether one of another site reaches it at its public address."""
        known_private = [0] * len(self._ends)
        for (i, j), use in self._uses.items():
            if use.private and self._root(i) != self._root(j):
                known_private[j] += 1
        return [
            known_private[i] < len(self._ends) - len(self._members[self._root(i)])
            for i in range(len(self._ends))
        ]

    def _apart(self) -> dict[Pair, Use]:
        """Return the pairs that use a public address in a direction, and no private one."""
        return {
            (i, j): use
            for (i, j), use in self._uses.items()
            if not use.private and not ((back := self._uses.get((j, i))) and back.within_site)
        }

    def _behind_one_address(self) -> list[list[int]]:
        """Return the gateways behind each public address that several have.

        Not if two of them are known to use it, or have the same address inside.
        """
        if not self.nat:
            return []
        groups: dict[str, list[int]] = defaultdict(list)
        for i, end in enumerate(self._ends):
            if end.outside:
                groups[end.outside].append(i)
        for i, j in self._apart():
            if self._ends[i].outside == self._ends[j].outside:
                groups.pop(self._ends[i].outside, None)
        return [
            members
            for members in groups.values()
            if len(members) > 1 and self._differ_inside(members)
        ]

    def _differ_inside(self, members: list[int]) -> bool:
        inside = [private.value for i in members if (private := self._ends[i].private)]
        return len(set(map(str, inside))) == len(members)

    def _exception(self, i: int, j: int) -> str:
        """Say that a pair of one site uses a public address, and what to do."""
        one, other = self._name(i), self._name(j)
        private = self._ends[j].private
        inside = f" at {legible(private.value)}" if private else ""
        return (
            f"{one} reaches {other} at its public address, but both reach other gateways of their"
            f" site at private ones, and a site has no exceptions; remove this connection if {one}"
            f" can reach {other}{inside}, or make a file for each pair of gateways"
        )

    def _name(self, i: int) -> str:
        return legible(self._ends[i].cluster)

    def _root(self, i: int) -> int:
        while self._parents[i] != i:
            self._parents[i] = self._parents[self._parents[i]]
            i = self._parents[i]
        return i

    def _join(self, i: int, j: int) -> None:
        first, second = sorted((self._root(i), self._root(j)))
        self._parents[second] = first


def _common_outside(ends: list[End]) -> str:
    """Return the public address that all have; empty if there is none."""
    first, *others = {end.outside for end in ends}
    return "" if others else first


def _listed(ends: list[End]) -> str:
    names = [legible(end.cluster) for end in ends[:MAX_LISTED]]
    more = len(ends) - len(names)
    if more:
        return f"{', '.join(names)} and {more} more"
    return f"{', '.join(names[:-1])} and {names[-1]}"


def _uses(file: Equivalent, ends: list[End]) -> dict[Pair, Use]:
    """Return what the Gateway resources say, each pair as from the first to the second end."""
    indices = {(end.cluster, end.cable_name): i for i, end in enumerate(ends)}
    uses: dict[Pair, Use] = {}
    for gateway in file.of_kind("Gateway"):
        status = gateway.value.get("status")
        status = status if isinstance(status, dict) else {}
        i = indices.get(_identity(status.get("localEndpoint")))
        connections = status.get("connections")
        for k, connection in enumerate(connections if isinstance(connections, list) else ()):
            peer = connection.get("endpoint") if isinstance(connection, dict) else None
            j = indices.get(_identity(peer))
            if i is None or j is None or i == j:
                continue
            use = _use(file, gateway, k, connection, ends[j])
            earlier = uses.setdefault((i, j), use) if use else None
            if use and earlier and (use.private, use.nat) != (earlier.private, earlier.nat):
                line = f"{earlier.place.file}:{earlier.place.line}"
                file.problems.append((use.place, f"differs from {line}, {_SAME_PAIR}"))
    return uses


def _identity(spec: object) -> tuple[str, str]:
    """Return what names the same gateway in an Endpoint and in a Gateway."""
    fields: dict[str, Any] = spec if isinstance(spec, dict) else {}
    return str(fields.get("cluster_id") or ""), str(fields.get("cable_name") or "")


def _use(
    file: Equivalent, gateway: Object, number: int, connection: dict[str, Any], peer: End
) -> Use | None:
    """Return what a connection says of its peer; None if it says nothing of its addresses.

    After a minute without an answer Submariner takes the public address if nat_enabled is true,
    and else the private one (useLegacyNATSettings). So only a connection that is up proves that
    this address is right.
    """
    path: Path = (*_CONNECTIONS, number)
    using, place = connection.get("usingIP"), gateway.place(*path, "usingIP")
    private = bool(peer.private and same_address(using, peer.private.value))
    public = bool(peer.public and same_address(using, peer.public.value))
    guessed = connection.get("status") != CONNECTED and private != peer.natted
    if not (private or public) or guessed:
        return None
    nat = Field(connection.get("usingNAT", False), gateway.place(*path, "usingNAT"))
    return Use(private, bool(file.read(nat, as_bool)), place)
