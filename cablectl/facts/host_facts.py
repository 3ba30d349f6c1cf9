"""What a plan needs to know of the host: read once by `host`, or assumed for a dry run."""

from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from cablectl.libreswan import pluto
from cablectl.libreswan.dialects import Version
from cablectl.libreswan.pluto import LoadedConnection, Shunt, selectors
from cablectl.linux import guard, iproute, xfrm
from cablectl.linux.esp_offload import MODULES, Nic
from cablectl.linux.guard import Guard
from cablectl.linux.overlay.protocol import GROUP
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.xfrm import Policy, SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import IANA_VXLAN_PORT, OverlayWish


class Pluto(StrEnum):
    """Whether the daemon answers, and if not, whether the host has a way to start it."""

    RUNNING = "running"
    STARTABLE = "startable"
    DOWN = "down"


class Credential(StrEnum):
    """Whether the cable's credential is where pluto reads it: missing, as wanted, or another."""

    ABSENT = "absent"
    SAME = "same"
    OTHER = "other"


class Link(Struct, frozen=True):
    """A network device, as far as it matters whether it is the cable's own; the MTU in bytes.

    `kind` and `info` are what `ip -d -j link` calls info_kind and info_data.
    """

    kind: str
    group: str
    mac: str
    mtu: int
    up: bool
    info: dict[str, object] = {}
    addresses: frozenset[str] = frozenset()

    @property
    def ours(self) -> bool:
        """Whether cablectl made the device: its group says so."""
        return self.group == GROUP

    def fits(self, cable: Cable, wanted: OverlayWish) -> bool:
        """Tell whether it is the device that the cable needs."""
        overlay = overlay_of(wanted)
        kind, info = overlay.link_info(cable)
        if overlay.has_macs and self.mac != cable.local.mac:
            return False
        return self.kind == kind and info.items() <= self.info.items()


class StalePeer(Struct, frozen=True):
    """A peer of the cable's device whose cable isn't among those that the facts were read for.

    `id` is what its cable was called, `gateway` its address; `connections` are the names of those
    that pluto has; the rest is what is there of it, as in `OverlayFacts`.
    """

    id: str
    gateway: str
    fdb: frozenset[tuple[str, str]] = frozenset()
    neighbours: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[iproute.Route] = frozenset()
    connections: tuple[str, ...] = ()
    made_here: bool = False  # whether cablectl made the cable


class OverlayFacts(Struct, frozen=True):
    """What the kernel holds of the overlay.

    `fdb` holds (MAC, VTEP's host), `neighbours` (VTEP, MAC), `routes` (subnet, VTEP, source),
    `settings` (file, value): those of the cable's device. `rule` says whether cablectl's rule for
    its routing table is there, `stale_peers` which other peers the device has.
    """

    link: Link | None = None
    fdb: frozenset[tuple[str, str]] = frozenset()
    neighbours: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[iproute.Route] = frozenset()
    settings: frozenset[tuple[str, str]] = frozenset()
    rule: bool = False
    stale_peers: tuple[StalePeer, ...] = ()


class Facts(Struct, frozen=True, kw_only=True):
    """The state of a host, as far as one cable is concerned.

    `path_mtu` is in bytes; `nic` leads to the peer; `to_load` are the kernel's modules of IPsec and
    its offload that are missing and can be loaded; `source` is the address that speaks for the host
    in its own subnets, or nothing; `leaves_with` is the address with which the route to the peer
    leaves; `connections` are those of the cable that pluto has, `former` those that join the same
    under the name that the peer had before, each with the id of that cable, which cablectl made;
    `shunts` are pluto's bare ones; `policies`
    (each with its reqid) and `sas` are all that the kernel has, ours or not, but for those of other
    cables that were read with this one; `guard` is the cable's nftables table; `service_port` is
    what the name vxlan stands for here; `algorithms` are those of the file in pluto's words, None
    if not known; `unknown_algorithms` is what Libreswan says against them; `not_ready` says what
    keeps a cable from coming up here, each with what to do about it; `warnings` and `assumed` (what
    a dry run did not read) are for a person to judge.
    """

    libreswan: Version
    path_mtu: int = 1500
    source: str = ""
    leaves_with: str = ""
    pluto: Pluto = Pluto.RUNNING
    nic: Nic | None = None
    to_load: tuple[str, ...] = MODULES
    guard: Guard | None = None
    service_port: int | None = IANA_VXLAN_PORT
    algorithms: tuple[str, ...] | None = None
    unknown_algorithms: str = ""
    credential: Credential = Credential.ABSENT
    made_here: bool = False
    connections: dict[str, LoadedConnection] = {}
    former: dict[str, str] = {}
    shunts: tuple[Shunt, ...] = ()
    policies: dict[Policy, int] = {}
    sas: tuple[SecurityAssociation, ...] = ()
    overlay: OverlayFacts = OverlayFacts()
    not_ready: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def loaded(self, cable: Cable) -> dict[str, LoadedConnection]:
        """Return those of the cable's connections that pluto has."""
        names = (connection.name for connection in cable.connections)
        return {name: self.connections[name] for name in names if name in self.connections}

    def outdated(self, cable: Cable) -> tuple[str, ...]:
        """Return the names of connections that the file has no more, or says something else of.

        Only if cablectl made the cable here: Submariner uses the same names.
        """
        former = tuple(self.former)
        if not self.made_here:
            return former
        wanted = {each.name: pluto.selectors(each) for each in cable.connections}

        def is_as_wanted(name: str, loaded: LoadedConnection) -> bool:
            same = self.algorithms in (None, loaded.esp)
            return name in wanted and loaded.joins(wanted[name]) and same

        changed = (
            name
            for name, loaded in self.connections.items()
            if pluto.cable_of(name, loaded) == cable.remote.cable_name
            and not is_as_wanted(name, loaded)
        )
        return (*changed, *former)

    def is_up(self, name: str) -> bool:
        """Tell whether pluto has that connection with a Child SA."""
        loaded = self.connections.get(name)
        return loaded is not None and loaded.up


def connected(
    cable: Cable,
    before: Facts,
    mtu: int,
    *,
    up: bool = True,
    stale_peers: tuple[StalePeer, ...] = (),
) -> Facts:
    """Return the facts of a host on which the cable was made; the device's MTU is in bytes.

    What a teardown's dry run assumes; `stale_peers` are the other peers of the cable's device.
    """
    return replace(
        before,
        to_load=(),
        credential=Credential.SAME if cable.connections else Credential.ABSENT,
        made_here=bool(cable.connections),
        connections={
            each.name: LoadedConnection(
                each.routed, up, selectors(each), esp=before.algorithms or ()
            )
            for each in cable.connections
        },
        guard=guard.made(cable) if cable.guarded else None,
        policies=dict.fromkeys(xfrm.policies_of(cable.connections), 16389),
        overlay=replace(_made(cable, cable.overlay, before, mtu), stale_peers=stale_peers)
        if cable.overlay
        else OverlayFacts(),
    )


def _made(cable: Cable, wanted: OverlayWish, before: Facts, mtu: int) -> OverlayFacts:
    overlay = overlay_of(wanted)
    kind, info = overlay.link_info(cable)
    vtep = (str(cable.remote_vtep.ip), cable.remote.mac)
    return OverlayFacts(
        link=Link(
            kind=kind,
            group=GROUP,
            mac=cable.local.mac,
            mtu=mtu,
            up=True,
            info=info,
            addresses=frozenset({str(cable.local_vtep)}),
        ),
        fdb=frozenset(overlay.fdb_entries(cable)),
        neighbours=frozenset({vtep}) if overlay.has_macs else frozenset(),
        routes=frozenset(iproute.routes(cable, before.source)),
        settings=frozenset(iproute.settings(cable, wanted)),
        rule=True,
    )
