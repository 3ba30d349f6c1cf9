"""What a cable is: two endpoints, how IPsec protects it, which overlay runs in it.

Every value is frozen. Names are those of RFC 4301 (selector, SA), RFC 7348 (VTEP, VNI) and of
Submariner (endpoint, cable), whose naming of connections is kept so that its users know them.
"""

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Annotated

from msgspec import Meta, Struct

from cablectl.errors import UsageError

IANA_VXLAN_PORT = 4789  # RFC 7348, section 8.1
VTEP_NETWORK = 241  # the first octet of Submariner's VTEP addresses
PLUTO_PORTS = (500, 4500)  # pluto binds both on every address, RFC 7296, section 2

Name = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}\Z",
        description="1 to 63 of A-Z a-z 0-9 . _ -, the first a letter or digit",
    ),
]
Port = Annotated[int, Meta(ge=1, le=65535, description="a port, 1 to 65535")]
Algorithm = Annotated[
    str,
    Meta(
        pattern=r"^[a-z0-9][a-z0-9_-]{0,62}\Z",
        description="an algorithm as Libreswan writes it, such as aes_gcm-null or modp2048",
    ),
]


Address = Annotated[IPv4Address, Meta(description="an IPv4 address of a host")]
Subnet = Annotated[
    IPv4Network, Meta(description="an IPv4 subnet such as 10.44.0.0/16, no host bits set")
]


class Mode(StrEnum):
    """How IPsec carries the traffic between the endpoints."""

    TRANSPORT = "transport"


class Overlay(StrEnum):
    """What runs inside of IPsec transport mode."""

    VXLAN = "vxlan"


class Encapsulation(StrEnum):
    """Whether ESP travels in UDP (RFC 3948): always, never, or only where there is NAT."""

    YES = "yes"
    NO = "no"
    AUTO = "auto"


class Offload(StrEnum):
    """Whether the NIC's IPsec offload is made ready."""

    AUTO = "auto"
    OFF = "off"


class Initiate(StrEnum):
    """Which end starts the negotiation: exactly one, or both at once."""

    AUTO = "auto"
    BOTH = "both"


class DpdAction(StrEnum):
    """What Libreswan 4.x does about a dead peer."""

    HOLD = "hold"
    CLEAR = "clear"
    RESTART = "restart"


class Dpd(Struct, frozen=True):
    """Dead-peer detection (RFC 7296, section 2.4); the delay is in seconds."""

    delay: Annotated[int, Meta(ge=1, le=3600, description="seconds, 1 to 3600")] = 30
    action: DpdAction = DpdAction.HOLD


class PskFile(Struct, frozen=True):
    """The pre-shared key is what this file holds, its line ends left out."""

    path: str


class PskEnv(Struct, frozen=True):
    """The pre-shared key is what this environment variable holds."""

    variable: str


class Ipsec(Struct, frozen=True, kw_only=True):
    """How the two gateways authenticate and encrypt."""

    psk: Annotated[
        PskFile | PskEnv, Meta(description="{file: /PATH} or {env: NAME}, never the key itself")
    ]
    ike_port: Port = 4500
    encapsulation: Encapsulation = Encapsulation.YES
    pfs_group: Algorithm | None = None
    esp: Annotated[tuple[Algorithm, ...], Meta(description="a list of algorithms")] = ()
    offload: Offload = Offload.AUTO
    dpd: Annotated[Dpd | None, Meta(description="a mapping with delay and action, or off")] = Dpd()
    initiate: Initiate = Initiate.AUTO


class Vxlan(Struct, frozen=True, kw_only=True):
    """The overlay's device. `mtu` is in bytes; None stands for the largest that fits."""

    port: Annotated[Port | str, Meta(description="a port, 1 to 65535, or vxlan")] = IANA_VXLAN_PORT
    vni: Annotated[
        int, Meta(ge=0, le=2**24 - 1, description="a VNI, 0 to 16777215 (RFC 7348, section 5)")
    ] = 1000
    device: Annotated[
        str,
        Meta(
            pattern=r"^(?!\.{1,2}\Z)[A-Za-z0-9][A-Za-z0-9._-]{0,14}\Z",
            description="1 to 15 of A-Z a-z 0-9 . _ -, the first a letter or digit",
        ),
    ] = "vxlan-tunnel"
    mtu: Annotated[
        Annotated[int, Meta(ge=576, le=65535)] | None,
        Meta(description="bytes, 576 to 65535, or auto"),
    ] = None

    @property
    def port_number(self) -> int:
        """The port as `ip link` takes it."""
        return IANA_VXLAN_PORT if isinstance(self.port, str) else self.port


class Endpoint(Struct, frozen=True, kw_only=True):
    """A gateway, and the subnets of its cluster that are reached through it."""

    cluster: Name
    hostname: Name
    address: Address
    subnets: Annotated[tuple[Subnet, ...], Meta(description="a list of subnets")] = ()

    def __str__(self) -> str:
        """Name the endpoint the way an error message lists it."""
        return f"{self.cluster} ({self.hostname}, {self.address})"

    @property
    def vtep(self) -> IPv4Interface:
        """The address on the overlay: the gateway's own, with 241 for its first octet."""
        octets = self.address.packed
        return IPv4Interface((bytes((VTEP_NETWORK,)) + octets[1:], 8))

    @property
    def vtep_mac(self) -> str:
        """The VTEP's Ethernet address, known to the other end without asking.

        Locally administered (IEEE 802, the 02 bit of the first octet); the address makes it unique.
        """
        return (b"\x02\xca" + self.address.packed).hex(":")


class Selector(Struct, frozen=True):
    """One end of a connection's traffic selector; a port of None is any port."""

    host: IPv4Address
    port: int | str | None


class Connection(Struct, frozen=True):
    """One of the cable's connections, as pluto knows it."""

    name: str
    local: Selector
    remote: Selector


class Cable(Struct, frozen=True):
    """What joins two endpoints, seen from the local one."""

    local: Endpoint
    remote: Endpoint
    ipsec: Ipsec
    vxlan: Vxlan

    @property
    def id(self) -> str:
        """What tells this cable from the others of this host."""
        return f"{self.remote.cluster}-{self.remote.address}".replace(".", "-")

    @property
    def connections(self) -> tuple[Connection, Connection]:
        """One connection for each direction in which a VTEP may send.

        A VTEP sends from any port to the overlay's, so each end's overlay port needs a selector of
        its own: in connection 0 it is the local end's, in connection 1 the remote end's.
        """
        local, remote, port = self.local.address, self.remote.address, self.vxlan.port
        name = f"submariner-cable-{self.remote.cluster}-{str(remote).replace('.', '-')}"
        return (
            Connection(f"{name}-0", Selector(local, port), Selector(remote, None)),
            Connection(f"{name}-1", Selector(local, None), Selector(remote, port)),
        )

    @property
    def initiates(self) -> bool:
        """Whether the local end starts the negotiation.

        Two ends that start at the same moment leave two Child SAs for each connection, so by
        default only the end with the lower address does.
        """
        return self.ipsec.initiate is Initiate.BOTH or self.local.address < self.remote.address


class Network(Struct, frozen=True):
    """What the file describes."""

    endpoints: tuple[Endpoint, ...]
    ipsec: Ipsec
    vxlan: Vxlan

    def named(self, name: str) -> Endpoint:
        """Return the endpoint of that cluster, hostname or address; UsageError if there is none."""
        for endpoint in self.endpoints:
            if name in (endpoint.cluster, endpoint.hostname, str(endpoint.address)):
                return endpoint
        raise UsageError(
            f"--local {name}: no endpoint has that cluster, hostname or address",
            hint=f"the endpoints are {self._listed}",
        )

    def held_by(self, addresses: frozenset[str]) -> Endpoint:
        """Return the one endpoint whose address is among `addresses`; else UsageError."""
        found = [endpoint for endpoint in self.endpoints if str(endpoint.address) in addresses]
        if len(found) == 1:
            return found[0]
        what = "more than one endpoint" if found else "no endpoint"
        raise UsageError(
            f"this host holds the address of {what}",
            hint=f"say which end it is with --local: {self._listed}",
        )

    def cable(self, local: Endpoint) -> Cable:
        """Return the cable from `local` to the other endpoint."""
        (remote,) = (endpoint for endpoint in self.endpoints if endpoint is not local)
        return Cable(local, remote, self.ipsec, self.vxlan)

    @property
    def _listed(self) -> str:
        return ", ".join(map(str, self.endpoints))
