"""What a file may say: endpoints, mode, IPsec, overlay, each with the allowed values.

Every value is frozen. The terms are those of RFC 4301 (selector, SA), RFC 7348 (VTEP, VNI) and
Submariner (endpoint, cable). Connections are named as Submariner names them.
"""

from enum import StrEnum
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Annotated, ClassVar, get_args

from msgspec import Meta, Struct

from cablectl.model.names import Algorithm, Device, Hostname, IkeProposal, Name
from cablectl.model.psk import PskFile, WrittenPpk, WrittenPsk
from cablectl.model.ranges import Lifetime, MaxBytes, ReplayWindow
from cablectl.model.x509 import Auth, Cert, Identity, KeyType, pluto_identity

IANA_VXLAN_PORT = 4789  # RFC 7348, section 8.1
IANA_GENEVE_PORT = 6081  # RFC 8926, section 3.3
PLUTO_PORTS = (500, 4500)  # pluto binds both on every address (RFC 7296, section 2)
CABLE = "submariner-cable-"  # the beginning of every connection's name
DEFAULT_PSK = "/etc/cablectl/psk"
DEFAULT_PSK_FILE = PskFile(DEFAULT_PSK)
KERNEL_TABLES = (253, 254, 255)  # default, main and local (ip-rule(8))
MAX_ENDPOINTS = 4096  # of one file
MAX_SHOWN_HOSTNAME = 40  # characters; a hostname may have 253

AnyAddress = IPv4Address | IPv6Address
AnyNetwork = IPv4Network | IPv6Network

# The networks of the VTEPs: that of Submariner's VXLAN driver, and a unique local one (RFC 4193).
VTEP_NETWORKS: dict[int, AnyNetwork] = {
    4: IPv4Network("241.0.0.0/8"),
    6: IPv6Network("fdca:b1e0::/32"),
}
# Those of the underlay addresses, between which an overlay's packets travel in tunnel mode.
# Submariner uses the networks from 240 to 243: docs/adr/0008-tunnel-overlay.md.
UNDERLAY_NETWORKS: dict[int, AnyNetwork] = {
    4: IPv4Network("244.0.0.0/8"),
    6: IPv6Network("fdca:b1e1::/32"),
}

Port = Annotated[int, Meta(ge=1, le=65535, description="a port, 1 to 65535")]
Vni = Annotated[
    int, Meta(ge=0, le=2**24 - 1, description="a VNI, 0 to 16777215 (RFC 7348, section 5)")
]
Address = Annotated[AnyAddress, Meta(description="an IPv4 or IPv6 address of a host")]
OptionalAddress = Annotated[
    Address | None, Meta(description="an IPv4 or IPv6 address of a host, or null")
]
Subnet = Annotated[AnyNetwork, Meta(description="a subnet such as 10.44.0.0/16, no host bits set")]


class Mode(StrEnum):
    """How IPsec carries the traffic between the endpoints; none: without IPsec."""

    TUNNEL = "tunnel"
    TRANSPORT = "transport"
    NONE = "none"


class OverlayKind(StrEnum):
    """What travels in IPsec transport mode; none: the hosts' own traffic."""

    VXLAN = "vxlan"
    GRE = "gre"
    GENEVE = "geneve"
    IPIP = "ipip"
    NONE = "none"


class Encapsulation(StrEnum):
    """Whether ESP travels in UDP (RFC 3948): always, never, or only through NAT."""

    YES = "yes"
    NO = "no"
    AUTO = "auto"


class Esn(StrEnum):
    """Extended sequence numbers (RFC 4304): Libreswan's default, or offered with and without."""

    AUTO = "auto"
    YES = "yes"


class Offload(StrEnum):
    """What the NIC does for ESP: what it can, at least crypto, whole packets, or nothing."""

    AUTO = "auto"
    REQUIRED = "required"
    PACKET = "packet"
    OFF = "off"


class Initiate(StrEnum):
    """Which end initiates: exactly one, or both at once."""

    AUTO = "auto"
    BOTH = "both"


class Forwarding(StrEnum):
    """Where frames without a forwarding entry go: nowhere, or to every peer."""

    AUTO = "auto"
    STATIC = "static"
    FLOOD = "flood"


class Clamp(StrEnum):
    """How TCP's segments are limited: to what the path carries, or not at all."""

    AUTO = "auto"
    OFF = "off"


# The least is the MSS that every host accepts (RFC 9293, section 3.7.1), the most that of an IP
# packet of 65535 bytes.
MssBytes = Annotated[int, Meta(ge=536, le=65495)]
Mss = MssBytes | Clamp


class DpdAction(StrEnum):
    """What Libreswan 4.x does about a dead peer."""

    HOLD = "hold"
    CLEAR = "clear"
    RESTART = "restart"


class Dpd(Struct, frozen=True):
    """Dead-peer detection (RFC 7296, section 2.4); the delay is in seconds."""

    delay: Annotated[int, Meta(ge=1, le=3600, description="seconds, 1 to 3600")] = 30
    action: DpdAction = DpdAction.HOLD


class Ipsec(Struct, frozen=True, kw_only=True):
    """How the two gateways authenticate and encrypt."""

    auth: Auth = Auth.PSK
    psk: WrittenPsk = DEFAULT_PSK_FILE
    ppk: WrittenPpk = None
    cert: Cert | None = None
    ike_port: Port = 4500
    encapsulation: Encapsulation = Encapsulation.YES
    ike: Annotated[tuple[IkeProposal, ...], Meta(description="a list of IKE proposals")] = ()
    pfs_group: Algorithm | None = None
    esp: Annotated[tuple[Algorithm, ...], Meta(description="a list of algorithms")] = ()
    esn: Esn = Esn.AUTO
    replay_window: ReplayWindow | None = None
    ike_lifetime: Lifetime | None = None
    sa_lifetime: Lifetime | None = None
    max_bytes: MaxBytes | None = None
    offload: Offload = Offload.AUTO
    dpd: Annotated[Dpd | None, Meta(description="a mapping with delay and action, or off")] = Dpd()
    initiate: Initiate = Initiate.AUTO

    @property
    def certificates(self) -> Cert:
        """Where the certificates are, or the defaults."""
        return self.cert or Cert()


Mtu = Annotated[
    Annotated[int, Meta(ge=576, le=65535)] | None,
    Meta(description="bytes, 576 to 65535, or auto"),
]


class IpProtocol(StrEnum):
    """The protocol of an overlay's packets, by IANA's keyword (Protocol Numbers)."""

    UDP = "udp"
    GRE = "gre"
    IPV4 = "ipv4"
    IPV6 = "ipv6"

    @classmethod
    def named(cls, text: str) -> "IpProtocol | None":
        """Return the protocol of a keyword in either case; None if no overlay has it."""
        return next((protocol for protocol in cls if protocol == text.lower()), None)

    @property
    def number(self) -> int:
        """The number in the IP header."""
        return {"udp": 17, "gre": 47, "ipv4": 4, "ipv6": 41}[self]

    @property
    def word(self) -> str:
        """What whack and iproute2 take: a number where /etc/protocols has other names than IANA."""
        return str(self.number) if self in (IpProtocol.IPV4, IpProtocol.IPV6) else self.value


class Vxlan(Struct, frozen=True, kw_only=True):
    """A VXLAN device (RFC 7348).

    An `mtu` of None is the largest that fits, in bytes; `forwarding: auto` is flood for two
    endpoints and static for more.
    """

    kind: ClassVar[OverlayKind] = OverlayKind.VXLAN
    serves_all_peers: ClassVar[bool] = True
    port: Annotated[Port | str, Meta(description="a port, 1 to 65535, or vxlan")] = IANA_VXLAN_PORT
    vni: Vni = 1000
    device: Device = "vxlan-tunnel"
    mtu: Mtu = None
    forwarding: Forwarding = Forwarding.AUTO

    def protocol(self, version: int) -> IpProtocol:  # noqa: ARG002 - alike over IPv4 and IPv6
        """Return the protocol of the packets over that version of IP."""
        return IpProtocol.UDP

    @property
    def port_number(self) -> int:
        """The UDP port, also where the file has its name."""
        return IANA_VXLAN_PORT if isinstance(self.port, str) else self.port


class Geneve(Struct, frozen=True, kw_only=True):
    """A Geneve device (RFC 8926). An `mtu` of None is the largest that fits, in bytes."""

    kind: ClassVar[OverlayKind] = OverlayKind.GENEVE
    serves_all_peers: ClassVar[bool] = False
    port: Port = IANA_GENEVE_PORT
    vni: Vni = 1000
    device: Device = "geneve-tunnel"
    mtu: Mtu = None

    def protocol(self, version: int) -> IpProtocol:  # noqa: ARG002 - alike over IPv4 and IPv6
        """Return the protocol of the packets over that version of IP."""
        return IpProtocol.UDP

    @property
    def port_number(self) -> int:
        """The UDP port."""
        return self.port


class Gre(Struct, frozen=True, kw_only=True):
    """A GRE device (RFC 2784, RFC 2890). An `mtu` of None is the largest that fits, in bytes."""

    kind: ClassVar[OverlayKind] = OverlayKind.GRE
    serves_all_peers: ClassVar[bool] = False
    port: ClassVar[None] = None
    port_number: ClassVar[None] = None
    key: Annotated[int, Meta(ge=0, le=2**32 - 1, description="a key, 0 to 4294967295")] = 1000
    device: Device = "gre-tunnel"
    mtu: Mtu = None

    def protocol(self, version: int) -> IpProtocol:  # noqa: ARG002 - alike over IPv4 and IPv6
        """Return the protocol of the packets over that version of IP."""
        return IpProtocol.GRE


class Ipip(Struct, frozen=True, kw_only=True):
    """A device for IP in IP (RFC 2003, RFC 2473). An `mtu` of None is the largest that fits."""

    kind: ClassVar[OverlayKind] = OverlayKind.IPIP
    serves_all_peers: ClassVar[bool] = False
    port: ClassVar[None] = None
    port_number: ClassVar[None] = None
    device: Device = "ipip-tunnel"
    mtu: Mtu = None

    def protocol(self, version: int) -> IpProtocol:
        """Return the protocol of the packets: what they carry is of the same version of IP."""
        return IpProtocol.IPV4 if version == 4 else IpProtocol.IPV6


OverlayWish = Vxlan | Gre | Geneve | Ipip
OVERLAYS: dict[OverlayKind, type[OverlayWish]] = {wish.kind: wish for wish in get_args(OverlayWish)}


class Routes(Struct, frozen=True, kw_only=True):
    """Where the routes to the remote subnets are: the table, and the rule that looks it up.

    The defaults are numbers that no other program is known to use (docs/adr/0005-routes.md).
    """

    table: Annotated[
        int,
        Meta(
            ge=1,
            le=2**32 - 1,
            description="a routing table, 1 to 4294967295 without 253 to 255",
        ),
    ] = 24141
    priority: Annotated[
        int, Meta(ge=1, le=32765, description="a priority of a rule, 1 to 32765")
    ] = 241


class Endpoint(Struct, frozen=True, kw_only=True):
    """A gateway, and the subnets of its cluster that are reached through it.

    Gateways of another site reach it at `public_address`, through NAT. Gateways of the same `site`
    reach it at `address`. A `preferred_server` of None is unknown. An `ike_port` of None is that of
    `ipsec`, an `identity` of None the hostname, and a `key_type` of None that of `ipsec.cert`. Its
    `health_address`, in its subnets, is one end of the echoes.
    """

    cluster: Name
    hostname: Hostname
    address: Address
    public_address: OptionalAddress = None
    site: Annotated[
        Name | None,
        Meta(description="1 to 63 of A-Z a-z 0-9 . _ -, the first a letter or digit; or null"),
    ] = None
    subnets: Annotated[tuple[Subnet, ...], Meta(description="a list of subnets")] = ()
    preferred_server: Annotated[bool | None, Meta(description="true, false or null")] = False
    ike_port: Port | None = None
    identity: Identity | None = None
    key_type: KeyType | None = None
    health_address: OptionalAddress = None

    def __str__(self) -> str:
        """Return the endpoint as an error message lists it."""
        return f"{self.cluster} ({self.short_hostname}, {self.address})"

    @property
    def short_hostname(self) -> str:
        """The hostname as a message shows it: MAX_SHOWN_HOSTNAME characters at most."""
        if len(self.hostname) <= MAX_SHOWN_HOSTNAME:
            return self.hostname
        return f"{self.hostname[: MAX_SHOWN_HOSTNAME - 3]}..."

    @property
    def certified(self) -> str:
        """The name in its certificate by which its peers know it, as pluto takes it."""
        return pluto_identity(self.identity or self.hostname)

    @property
    def behind_nat(self) -> bool:
        """Whether gateways of other sites reach it at another address than its own."""
        return self.public_address not in (None, self.address)

    def shares_site(self, other: "Endpoint") -> bool:
        """Tell whether the two reach each other at their own addresses, without NAT."""
        return self.site is not None and self.site == other.site

    @property
    def cable_name(self) -> str:
        """The beginning of the names of connections to this endpoint, as Submariner has it."""
        return f"{CABLE}{self.cluster}-{dashed(self.address)}"

    @property
    def networks(self) -> tuple[AnyNetwork, ...]:
        """The subnets, without any that is only the gateway's own address."""
        return tuple(net for net in self.subnets if net.network_address != self.address)


def dashed(address: AnyAddress) -> str:
    """Return an address with dashes instead of dots and colons, for a name."""
    return str(address).replace(".", "-").replace(":", "-")
