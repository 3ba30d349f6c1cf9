"""What a plan needs to know of the host: read once by `host`, or assumed for a dry run."""

from enum import StrEnum

from msgspec import Struct

from cablectl import libreswan, xfrm
from cablectl.libreswan import LoadedConnection, Version
from cablectl.model import IANA_VXLAN_PORT, Cable
from cablectl.overlay import vxlan
from cablectl.xfrm import Policy, SecurityAssociation


class Pluto(StrEnum):
    """Whether the daemon answers, and if not, whether the host has a way to start it."""

    RUNNING = "running"
    STARTABLE = "startable"
    DOWN = "down"


class Secret(StrEnum):
    """What the cable's secrets file holds."""

    ABSENT = "absent"
    SAME = "same"
    OTHER = "other"


class Link(Struct, frozen=True):
    """A network device, as far as it matters whether it is the cable's own; the MTU in bytes."""

    kind: str
    mac: str
    mtu: int
    up: bool
    vni: int | None = None
    port: int | None = None
    local: str | None = None
    addresses: frozenset[str] = frozenset()

    def is_of(self, cable: Cable) -> bool:
        """Tell whether the device was made for the cable's local endpoint: its MAC says so."""
        return self.kind == "vxlan" and self.mac == cable.local.vtep_mac


class Overlay(Struct, frozen=True):
    """What the kernel holds of the overlay.

    `fdb` holds (MAC, VTEP's host), `neighbours` (VTEP, MAC), `routes` (subnet, VTEP): those of the
    cable's device. `rule` says whether cablectl's rule for its routing table is there.
    """

    link: Link | None = None
    fdb: frozenset[tuple[str, str]] = frozenset()
    neighbours: frozenset[tuple[str, str]] = frozenset()
    routes: frozenset[tuple[str, str]] = frozenset()
    rule: bool = False


class Facts(Struct, frozen=True, kw_only=True):
    """The state of a host, as far as one cable is concerned.

    `path_mtu` is in bytes; `policies` and `sas` are all that the kernel has, ours or not;
    `service_port` is what the name vxlan stands for here; `not_ready` says what keeps a cable from
    coming up here, each with what to do about it; `warnings` and `assumed` (what a dry run did not
    read) are for a person to judge.
    """

    libreswan: Version
    path_mtu: int = 1500
    pluto: Pluto = Pluto.RUNNING
    modules: bool = False
    service_port: int | None = IANA_VXLAN_PORT
    secret: Secret = Secret.ABSENT
    connections: dict[str, LoadedConnection] = {}
    policies: frozenset[Policy] = frozenset()
    sas: tuple[SecurityAssociation, ...] = ()
    overlay: Overlay = Overlay()
    not_ready: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()

    def loaded(self, cable: Cable) -> dict[str, LoadedConnection]:
        """Return those of the cable's connections that pluto has."""
        names = {connection.name for connection in cable.connections}
        return {name: self.connections[name] for name in names & self.connections.keys()}

    def is_up(self, name: str) -> bool:
        """Tell whether pluto has that connection with a Child SA."""
        loaded = self.connections.get(name)
        return loaded is not None and loaded.up


def connected(cable: Cable, version: Version, mtu: int, *, up: bool = True) -> Facts:
    """Return the facts of a host on which the cable was made; the device's MTU is in bytes.

    What a teardown's dry run assumes.
    """
    link = Link(
        kind="vxlan",
        mac=cable.local.vtep_mac,
        mtu=mtu,
        up=True,
        vni=cable.vxlan.vni,
        port=cable.vxlan.port_number,
        local=str(cable.local.address),
        addresses=frozenset({str(cable.local.vtep)}),
    )
    return Facts(
        libreswan=version,
        modules=True,
        secret=Secret.SAME,
        connections={
            each.name: LoadedConnection(True, up, libreswan.selectors(cable, each))
            for each in cable.connections
        },
        policies=xfrm.policies_of(cable),
        overlay=Overlay(
            link=link,
            fdb=frozenset(vxlan.fdb_entries(cable)),
            neighbours=frozenset({(str(cable.remote.vtep.ip), cable.remote.vtep_mac)}),
            routes=frozenset(vxlan.routes(cable)),
            rule=True,
        ),
    )
