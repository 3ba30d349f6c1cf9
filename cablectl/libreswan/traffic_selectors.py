"""Parser of the two ends of a connection as pluto prints them, in the forms of 4.0 to 5.4."""

import re
from ipaddress import ip_address, ip_network

from msgspec import Struct

from cablectl.model.connection import Connection, End
from cablectl.model.wishes import IpProtocol, Mode


class Side(Struct, frozen=True):
    """One end of a loaded connection as pluto prints it; None stands for any, or pluto's choice."""

    host: str | None
    ike_port: int | None
    network: str
    protocol: str | None
    port: int | None


class Selectors(Struct, frozen=True):
    """The traffic selectors of a loaded connection."""

    local: Side
    remote: Side


# 4.6 to 4.15 print 172.18.0.8/32:UDP/4789, 5.x 172.18.0.8/32/UDP/4789.
_PROTOPORT = r"[:/](?P<protocol>[A-Za-z\d]{1,15})(?:/(?P<port>[\d-]{1,11}))?"
_NETWORK = rf"(?P<network>[^/\[=]+/\d{{1,3}})(?:{_PROTOPORT})?"
# An IPv6 address has brackets only if a port follows. 5.4 prints no [+S?C].
_HOST = (
    r"(?P<host>\[[^]]+\](?=:\d)|%any|[\da-fA-F]*:[\da-fA-F:.]+|[^:\[\]=<-]+)"
    r"(?::(?P<ike>\d{1,5}))?(?:<[^<>]*>)?(?:\[[^]]*\])?"
)
# 4.0 to 4.5 print :17/4789 after the host, and no network if it is the host itself.
_OLD_PROTOPORT = r"(?::(?P<old_protocol>\d{1,3})/(?P<old_port>\d{1,5}|%any))?"
# A next hop says nothing of the traffic.
_HOP = r"(?:---[\da-fA-F:.]+|---<[a-z-]+>)?"
_HOP_REMOTE = r"(?:[\da-fA-F:.]+---|<[a-z-]+>---)?"
_LOCAL = rf"(?:{_NETWORK}===)?{_HOST}{_OLD_PROTOPORT}{_HOP}"
_REMOTE = rf"{_HOP_REMOTE}{_HOST}{_OLD_PROTOPORT}(?:==={_NETWORK})?"
# An identity in brackets may have dots of its own.
_ENDS = r"(?P<local>(?:[^\[\]]|\[[^]]*\])+?)\.\.\.(?P<remote>.+)"


def parse_selectors(text: str) -> Selectors | None:
    """Return both ends of `LOCAL...REMOTE`; None for a form that no connection of a cable has."""
    ends = re.fullmatch(_ENDS, text)
    if not ends:
        return None
    local = _side(re.fullmatch(_LOCAL, ends["local"]))
    remote = _side(re.fullmatch(_REMOTE, ends["remote"]))
    return Selectors(local, remote) if local and remote else None


def selectors(connection: Connection) -> Selectors:
    """Return the selectors that pluto prints for a connection that `whack.add` loaded."""

    def side(end: End) -> Side:
        protocol = end.protocol.upper() if end.protocol else None
        host = None if end.host is None else str(end.host)
        return Side(host, end.ike_port, str(end.network), protocol, end.port_number)

    return Selectors(side(connection.local), side(connection.remote))


def same(loaded: Selectors, wanted: Selectors) -> bool:
    """Return whether the selectors are equal; an IKE port of None equals every port."""
    return _same_side(loaded.local, wanted.local) and _same_side(loaded.remote, wanted.remote)


def mode_of(selectors: Selectors) -> Mode:
    """Return transport if the selectors are the two hosts themselves, else tunnel."""
    sides = (selectors.local, selectors.remote)
    hosts_only = all(side.network == _host_network(side.host) for side in sides)
    return Mode.TRANSPORT if hosts_only else Mode.TUNNEL


def end_of(side: Side) -> End:
    """Return the end of a connection that has this side."""
    return End(
        host=ip_address(side.host) if side.host else None,
        network=ip_network(side.network),
        ike_port=side.ike_port,
        protocol=IpProtocol.named(side.protocol) if side.protocol else None,
        port=side.port,
    )


def network_of(text: str) -> str:
    """Return the text if it is a network, else an empty text."""
    try:
        ip_network(text)
    except ValueError:
        return ""
    return text


def _same_side(loaded: Side, wanted: Side) -> bool:
    ike_ports = (loaded.ike_port, wanted.ike_port)
    return (None in ike_ports or loaded.ike_port == wanted.ike_port) and (
        (loaded.host, loaded.network, loaded.protocol, loaded.port)
        == (wanted.host, wanted.network, wanted.protocol, wanted.port)
    )


def _host_network(host: str | None) -> str:
    return f"{host}/{128 if ':' in (host or '') else 32}"


def _side(match: re.Match[str] | None) -> Side | None:
    if not match:
        return None
    host, ike_port = _host_and_port(match)
    network = network_of(match["network"] or _host_network(host))
    if not network or (host is not None and not network_of(_host_network(host))):
        return None
    port = match["port"] or match["old_port"]
    return Side(
        host,
        ike_port,
        network,
        _protocol(match),
        # 4.10 prints any port as 0-65535; 4.0 and 5.2 print 0 for a protocol without ports.
        (int(port) or None) if port and port.isdecimal() else None,
    )


def _host_and_port(match: re.Match[str]) -> tuple[str | None, int | None]:
    """Return the host's address, None for any, and its IKE port."""
    host, port = match["host"], match["ike"]
    if host == "%any":
        return None, int(port) if port else None
    # 4.0 to 4.5 print 2001:db8::8:4500, later releases [2001:db8::8]:4500.
    address, _, last = host.rpartition(":")
    if ":" in address and re.fullmatch(r"\d{3,5}", last) and network_of(_host_network(address)):
        host, port = address, last
    return host.strip("[]"), int(port) if port else None


def _protocol(match: re.Match[str]) -> str | None:
    if match["protocol"]:
        return match["protocol"].upper()
    number = int(match["old_protocol"] or 0)
    name = next((protocol for protocol in IpProtocol if protocol.number == number), None)
    return name.upper() if name else str(number) if number else None
