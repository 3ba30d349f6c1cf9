"""A connection as pluto loads it: its two ends, each with its traffic selector."""

from ipaddress import IPv4Address, IPv4Network, IPv6Network

from msgspec import Struct

from cablectl.model.wishes import IANA_VXLAN_PORT, AnyAddress, AnyNetwork, IpProtocol, Mode


class End(Struct, frozen=True, kw_only=True):
    """One end of a connection: the IKE peer and its traffic selector."""

    host: AnyAddress | None  # None: any host
    network: AnyNetwork  # in transport mode the host itself
    identity: str = ""  # empty: the host's address
    ike_port: int | None = None  # None: pluto's own
    protocol: IpProtocol | None = None  # None: any
    port: int | str | None = None  # None: any

    @property
    def port_number(self) -> int | None:
        """The port as a number, also where the file has its name."""
        return IANA_VXLAN_PORT if isinstance(self.port, str) else self.port


class Connection(Struct, frozen=True):
    """One connection of the cable, as pluto loads it."""

    name: str
    mode: Mode
    local: End
    remote: End

    @property
    def ends(self) -> tuple[End, End]:
        """The local end and the remote end."""
        return self.local, self.remote

    @property
    def routed(self) -> bool:
        """Whether it has trap policies: not if the peer may have any address."""
        return self.remote.host is not None

    @property
    def protects(self) -> str:
        """The traffic that it carries, in words."""
        if self.local.port:
            return "what the local VTEP receives"
        if self.remote.port:
            return "what the local VTEP sends"
        return f"{self.local.network} and {self.remote.network}"


def host_network(address: AnyAddress) -> AnyNetwork:
    """Return the network that holds one host alone."""
    return IPv4Network(address) if isinstance(address, IPv4Address) else IPv6Network(address)
