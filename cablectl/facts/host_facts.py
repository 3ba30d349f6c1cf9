"""What a plan needs to know of a host: read once by `host`, or assumed for a dry run."""

from collections.abc import Iterator
from enum import StrEnum

from msgspec import Struct
from msgspec.structs import replace

from cablectl.facts.earlier_gateways import EarlierGateway
from cablectl.facts.expiry import Expiry
from cablectl.libreswan import pluto
from cablectl.libreswan.dialects import Version
from cablectl.libreswan.limits import limits_of
from cablectl.libreswan.pluto import LoadedConnection, Shunt, selectors
from cablectl.linux import guard, iproute, mss, xfrm
from cablectl.linux.esp_offload import MODULES, Nic
from cablectl.linux.firewall.filters import Chain
from cablectl.linux.firewall.traffic import Devices
from cablectl.linux.mss import Table
from cablectl.linux.nftables import Installed
from cablectl.linux.overlay.protocol import GROUP
from cablectl.linux.overlay.registry import overlay_of
from cablectl.linux.xfrm import Policy, SecurityAssociation
from cablectl.model.cable import Cable
from cablectl.model.wishes import IANA_VXLAN_PORT, Mode, OverlayWish


class Pluto(StrEnum):
    """Whether the daemon answers, or else whether systemd can start it."""

    RUNNING = "running"
    STARTABLE = "startable"
    DOWN = "down"


class Credential(StrEnum):
    """Whether the cable's credential is where pluto reads it: missing, as wanted, or another.

    An earlier one has the wanted key for other identities: those of an earlier file. OTHER_PPK
    is as wanted, except that it has another PPK, or none, or one that the file doesn't name.
    A renewed one is another certificate than the one that pluto loaded, or another name of it. An
    incomplete one lacks an authority or a CRL, or NSS has lost a part of it.
    """

    ABSENT = "absent"
    SAME = "same"
    EARLIER = "earlier"
    OTHER_PPK = "other PPK"
    RENEWED = "renewed"
    INCOMPLETE = "incomplete"
    OTHER = "other"


class Algorithms(Struct, frozen=True):
    """What Libreswan says of the file's algorithms, which are empty if the file names none."""

    parsed: tuple[str, ...] | None = None  # those of ESP as pluto writes them; None: all unknown
    ike: tuple[str, ...] = ()  # those of IKE
    refused: str = ""  # why Libreswan refuses them
    unchecked: str = ""  # why they couldn't be checked

    def are_those_of(self, loaded: LoadedConnection) -> bool:
        """Return whether a connection has these algorithms; True if they are unknown."""
        return self.parsed is None or (self.parsed, self.ike) == (loaded.esp, loaded.ike_algorithms)


class Link(Struct, frozen=True):
    """A network device."""

    kind: str  # info_kind of `ip -d -j link`
    group: str
    mac: str
    mtu: int  # bytes
    up: bool
    info: dict[str, object] = {}  # info_data of `ip -d -j link`
    addresses: frozenset[str] = frozenset()  # each with its prefix length

    @property
    def ours(self) -> bool:
        """Whether cablectl made the device, which its group shows."""
        return self.group == GROUP

    @property
    def peer(self) -> str:
        """The gateway to which a device for one peer leads; empty for any other device."""
        return str(self.info.get("remote") or self.info.get("remote6") or "")

    def fits(self, cable: Cable, wanted: OverlayWish) -> bool:
        """Tell whether this is the device that the cable needs."""
        overlay = overlay_of(wanted)
        kind, info = overlay.link_info(cable)
        if overlay.has_macs and self.mac != cable.mac_of(cable.local):
            return False
        return self.kind == kind and info.items() <= self.info.items()


class StalePeer(Struct, frozen=True):
    """A peer of the cable's device that isn't among the cables whose facts were read."""

    id: str  # of the cable that led to it
    gateway: str  # the peer's address
    fdb: frozenset[tuple[str, str]] = frozenset()  # as in OverlayFacts
    neighbours: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[iproute.Route] = frozenset()
    connections: tuple[str, ...] = ()  # the names of those that are loaded
    made_here: bool = False  # whether cablectl made the cable


class OverlayFacts(Struct, frozen=True):
    """What the kernel holds of the overlay: the cable's device and what belongs to it."""

    link: Link | None = None
    others: dict[str, Link] = {}  # the devices of others that may clash with it, by name
    fdb: frozenset[tuple[str, str]] = frozenset()  # (MAC, gateway)
    neighbours: frozenset[tuple[str, str]] = frozenset()  # (VTEP, MAC)
    routes: frozenset[iproute.Route] = frozenset()  # (subnet, VTEP, source)
    settings: frozenset[tuple[str, str]] = frozenset()  # (file below /proc/sys, value)
    device_routes: frozenset[iproute.Route] = frozenset()  # to all peers of the device
    other_peers: frozenset[str] = frozenset()  # gateways to which other devices of cablectl lead
    rules: frozenset[iproute.Rule] = frozenset()  # cablectl's, of its table and priority
    blackhole: bool = False  # whether the table has the route of that kind
    underlay_shared: bool = False  # whether another device has a route to the same underlay
    table_shared: bool = False  # whether the table also has routes of cablectl's other devices
    foreign_routes: tuple[str, ...] = ()  # other programs' routes in the table, in words
    foreign_rules: tuple[str, ...] = ()  # other programs' rules with its table or priority
    old_routes: frozenset[iproute.OldRoute] = frozenset()  # the device's, of all peers
    old_rules: frozenset[iproute.Rule] = frozenset()  # those that no other device needs
    stale_peers: tuple[StalePeer, ...] = ()
    known: bool = False  # whether the device is this file's, even if it has another local address


class Facts(Struct, frozen=True, kw_only=True):
    """The state of a host, as far as one cable is concerned."""

    libreswan: Version
    path_mtu: int = 1500  # bytes
    held: frozenset[str] = frozenset()  # this host's addresses
    source: str = ""  # this host's address in its own subnets, if it has one
    leaves_with: str = ""  # the source address that the route to the peer gives
    fips: bool = False  # whether the kernel runs in FIPS mode
    pluto: Pluto = Pluto.RUNNING
    holds_address: bool = True  # whether an interface of this host has the local end's address
    instead: str = ""  # the address that this host has towards the peer, if it lacks that address
    device: str = ""  # leads to the peer; empty without a route
    nic: Nic | None = None  # that device, for a cable with IPsec
    to_load: tuple[str, ...] = (
        MODULES  # modules for IPsec and offload that are missing but loadable
    )
    guard: Installed | None = None
    guard_watched: bool = False  # whether a watcher keeps the guard loaded
    watched: bool = False  # whether a watch repairs the cable
    silent: bool = False  # whether nothing comes from the peer, so that new SAs are needed
    stuck: bool = False  # whether pluto was to delete a Child SA too many, and hasn't
    nat: tuple[Chain, ...] = ()  # the filters of other programs, if there are NAT rules
    devices: Devices = Devices()  # through which the packets pass, if there are NAT rules
    mss: Table | None = None  # the nftables table that limits TCP's segments
    service_port: int | None = IANA_VXLAN_PORT  # the port called vxlan in /etc/services
    algorithms: Algorithms = Algorithms()
    credential: Credential = Credential.ABSENT
    expiries: tuple[Expiry, ...] = ()  # of the certificate and the authorities above it
    made_here: bool = False  # whether cablectl made the cable: its mark is on this host
    connections: dict[str, LoadedConnection] = {}  # of the cable, by name
    # Connections to unload before the cable's own ones are loaded → the id of their cable: those
    # under the peer's former name and, in tunnel mode, those to its earlier gateways.
    former: dict[str, str] = {}
    earlier: tuple[EarlierGateway, ...] = ()  # gateways that the peer's cluster had before
    former_tables: tuple[str, ...] = ()  # the nftables tables of these cables
    shunts: tuple[Shunt, ...] = ()  # pluto's bare shunts
    policies: dict[Policy, int] = {}  # with their reqids: all but those of other known cables
    sas: tuple[SecurityAssociation, ...] = ()  # likewise
    overlay: OverlayFacts = OverlayFacts()
    not_ready: tuple[tuple[str, str], ...] = ()  # what prevents a cable here, each with its remedy
    warnings: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()  # what a dry run assumed instead of reading it

    def loaded(self, cable: Cable) -> dict[str, LoadedConnection]:
        """Return the cable's connections that are loaded in pluto."""
        names = (connection.name for connection in cable.connections)
        return {name: self.connections[name] for name in names if name in self.connections}

    def outdated(self, cable: Cable) -> tuple[str, ...]:
        """Return the names of loaded connections that the file no longer has, or has changed.

        Only if cablectl made the cable here: Submariner uses the same names.
        """
        former = tuple(self.former)
        if not self.made_here:
            return former
        wanted = {connection.name: pluto.selectors(connection) for connection in cable.connections}
        limits, insists = limits_of(cable.ipsec), (None, cable.ipsec.ppk is not None)

        def is_as_wanted(name: str, loaded: LoadedConnection) -> bool:
            same = self.algorithms.are_those_of(loaded) and loaded.limits.meet(limits)
            known = cable.traced or loaded.insists in insists  # a trace doesn't show the wish
            return name in wanted and loaded.joins(wanted[name]) and same and known

        changed = (
            name
            for name, loaded in self.connections.items()
            if pluto.cable_of(name, loaded) == cable.remote.cable_name
            and not is_as_wanted(name, loaded)
        )
        return (*changed, *former)

    def was_made_at(self, cable: Cable) -> bool:
        """Tell whether cablectl made the cable here while this host had the local end's address."""
        link, wanted = self.overlay.link, cable.overlay
        device_fits = link is not None and wanted is not None and link.fits(cable, wanted)
        return self.credential is Credential.SAME or (
            device_fits and link is not None and link.ours
        )

    def is_up(self, name: str) -> bool:
        """Tell whether that connection is loaded and has a Child SA."""
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
    """Return the facts of a host on which connect made the cable, as a dry-run teardown assumes.

    `mtu` is the device's, in bytes; `stale_peers` are other peers of the cable's device.
    """
    return replace(
        before,
        to_load=(),
        credential=Credential.SAME if cable.connections else Credential.ABSENT,
        made_here=bool(cable.connections),
        connections={
            connection.name: LoadedConnection(
                connection.routed and (up or cable.traps),
                up,
                selectors(connection),
                esp=before.algorithms.parsed or (),
                ike_algorithms=before.algorithms.ike,
                limits=limits_of(cable.ipsec),
                insists=cable.ipsec.ppk is not None,
            )
            for connection in cable.connections
        },
        guard=guard.made(cable) if cable.guarded else None,
        mss=mss.wanted([cable], mtu if cable.overlay else mss.tunnel_mtu(cable, before.path_mtu)),
        guard_watched=cable.guarded,
        policies=dict.fromkeys(xfrm.policies_of(cable.connections), 16389),
        overlay=replace(_made(cable, cable.overlay, before, mtu), stale_peers=stale_peers)
        if cable.overlay
        else OverlayFacts(),
    )


def _rules(cable: Cable) -> Iterator[iproute.Rule]:
    if rule := iproute.table_rule(cable):
        yield rule
    if cable.detour and cable.detour.used:
        yield from iproute.moving_rules(cable)


def _made(cable: Cable, wanted: OverlayWish, before: Facts, mtu: int) -> OverlayFacts:
    overlay = overlay_of(wanted)
    kind, info = overlay.link_info(cable)
    vtep = (str(cable.remote_vtep.ip), cable.mac_of(cable.remote))
    return OverlayFacts(
        link=Link(
            kind=kind,
            group=GROUP,
            mac=cable.mac_of(cable.local),
            mtu=mtu,
            up=True,
            info=info,
            addresses=frozenset(map(str, cable.device_addresses)),
        ),
        fdb=frozenset(overlay.fdb_entries(cable)),
        neighbours=frozenset({vtep}) if overlay.has_macs else frozenset(),
        routes=frozenset(iproute.routes(cable, before.source)),
        device_routes=frozenset(iproute.routes(cable, before.source)),
        settings=frozenset(iproute.settings(cable, wanted)),
        rules=frozenset(_rules(cable)),
        known=bool(cable.connections),
        blackhole=cable.mode is Mode.TUNNEL,
    )
