"""Parsers of what pluto prints: its connections, its SAs, and the addresses it listens on."""

import re
from collections.abc import Iterator
from enum import StrEnum
from ipaddress import ip_address, ip_network

from msgspec import Struct

from cablectl.model.cable import Connection, End
from cablectl.model.wishes import CABLE, IpProtocol, Mode


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


class Ike(StrEnum):
    """The state of a connection's IKE SA; one of the connections that share it owns it."""

    NONE = "none"
    NEGOTIATING = "negotiating"
    ESTABLISHED = "established"


class ChildSa(Struct, frozen=True):
    """The two SAs of a connection, in and out."""

    serial: int  # pluto's state number
    added: int  # seconds since 1970
    bytes_in: int
    bytes_out: int
    spi_in: str = ""  # as the kernel prints it; empty if pluto didn't print it
    spi_out: str = ""
    rekey_in: int | None = None  # seconds


class LoadedConnection(Struct, frozen=True):
    """A connection that pluto has loaded."""

    routed: bool
    up: bool
    selectors: Selectors | None  # None if pluto's line has an unknown form
    child_sas: tuple[ChildSa, ...] = ()
    ike: Ike = Ike.NONE
    esp: tuple[str, ...] = ()  # its own algorithms as pluto prints them; empty for the defaults
    lost: bool = False  # pluto has a Child SA, but the kernel lacks one of its two SAs
    # The connection that owns the IKE SA of the newest Child SA; None if pluto didn't print it.
    # Empty if that IKE SA no longer exists: the peer has removed the Child SA with it.
    ike_of: str | None = None

    def joins(self, wanted: Selectors) -> bool:
        """Return whether it has these selectors; True if its own could not be parsed."""
        return self.selectors is None or same(self.selectors, wanted)


class Shunt(Struct, frozen=True):
    """A kernel policy that pluto installed without a connection."""

    source: str  # a network
    destination: str  # a network
    policy: str  # hold, pass or drop


class Status(Struct, frozen=True):
    """Pluto's loaded connections by name, and its bare shunts."""

    connections: dict[str, LoadedConnection]
    shunts: tuple[Shunt, ...] = ()


# Compiled at first use: compiling takes a millisecond each, and a dry run needs none of them.
# Each pattern includes the text after a number, so that a number is never matched in part.
_CONNECTION = (
    r'^(?:\d{3} )?"(?P<name>[^"]+)"(?P<instance>\[\d+\])?: '
    r"(?P<selectors>[^; ]+\.\.\.[^; ]+); (?P<routing>[^;]+);"
)
_PROTOPORT = r"[:/](?P<protocol>[A-Za-z\d]{1,15})(?:/(?P<port>[\d-]{1,11}))?"
_NETWORK = rf"(?P<network>[^/\[=]+/\d{{1,3}})(?:{_PROTOPORT})?"
_HOST = r"(?P<host>\[[^]]+\]|[^:\[=]+)(?::(?P<ike>\d{1,5}))?(?:\[[^]]*\])?"
_LOCAL = rf"(?:{_NETWORK}===)?{_HOST}$"
_REMOTE = rf"{_HOST}(?:==={_NETWORK})?$"
# An instance has the peer's address after its number.
_STATE = r'^(?:\d{3} )?#(?P<serial>\d{1,19}): "(?P<name>[^"]+)"(?:\[\d+\] [^ ",#]+)?'
_PLUTO_SA = rf"{_STATE}, type=ESP, add_time=(?P<added>\d{{1,19}}),"
# Pluto reads the byte counts from the kernel; without an SA in the kernel they are missing.
_TRAFFIC = rf"{_PLUTO_SA} inBytes=(?P<in>\d{{1,20}}), outBytes=(?P<out>\d{{1,20}}),"
_STATE_TEXT = rf"{_STATE}:\d+ \w+ \((?P<text>[^()]+)\);(?P<timers>.*)"
_PARENT = r" IKE SA #(\d{1,19});"
_REKEY = r" (?:REKEY|REPLACE) in (\d{1,10})s;"
_SPIS = rf"{_STATE} esp[.:](?P<out>[\da-f]{{1,8}})@\S+ esp[.:](?P<in>[\da-f]{{1,8}})@\S+ "
_ESP = r'^(?:\d{3} )?"(?P<name>[^"]+)":   ESP algorithms: (?P<esp>[^\n]+)$'
_ALGORITHM = r"^\t(?P<algorithm>\S+)$"
_INTERFACE = (
    r"(?:\d{3} )?interface \S+ (?:UDP )?(?P<address>\S+?):(?:UDP/)?(?P<port>\d{1,5})(?: |$)"
)
_SHUNT = (
    r"^(?:\d{3} )?(?P<source>[\da-fA-F.:]+/\d{1,3})\S* -\w+->"
    r" (?P<destination>[\da-fA-F.:]+/\d{1,3})\S* => %(?P<policy>\w+)\s"
)


def parse(status: str, traffic_status: str) -> Status:
    """Return the connections and shunts that `--status` and `--trafficstatus` print."""
    return Status(parse_connections(status, traffic_status), parse_shunts(status))


def parse_connections(status: str, traffic_status: str) -> dict[str, LoadedConnection]:
    """Return the loaded connections by name, from `--status` and `--trafficstatus`.

    A connection is up if it has a Child SA, also in the kernel, and that Child SA's IKE SA exists.
    An IKE SA alone carries no traffic; without the IKE SA the peer has removed the Child SA.
    An instance of a connection to any host counts as that connection, which stays unrouted.
    """
    sas, ike = parse_child_sas(status, traffic_status), parse_ike(status)
    parents = parse_parents(status)
    esp = {line["name"]: tuple(line["esp"].split(", ")) for line in _matches(_ESP, status)}
    in_pluto = {line["name"] for line in _matches(_PLUTO_SA, traffic_status)}
    return {
        line["name"]: LoadedConnection(
            routed=line["routing"] != "unrouted",
            up=line["name"] in sas and parents.get(line["name"]) != "",
            selectors=_parse_selectors(line["selectors"]),
            child_sas=sas.get(line["name"], ()),
            ike=ike.get(line["name"], Ike.NONE),
            esp=esp.get(line["name"], ()),
            lost=line["name"] in in_pluto - sas.keys(),
            ike_of=parents.get(line["name"]),
        )
        for line in _matches(_CONNECTION, status)
        if not line["instance"]
    }


def parse_child_sas(status: str, traffic_status: str) -> dict[str, tuple[ChildSa, ...]]:
    """Return the Child SAs by the name of their connection, the newest last.

    `--trafficstatus` has the SAs and their byte counts.
    `--status` or `--showstates` has their SPIs and rekey times.
    """
    rekeys = {
        (line["name"], line["serial"]): min(map(int, seconds))
        for line in _matches(_STATE_TEXT, status)
        if (seconds := re.findall(_REKEY, line["timers"]))
    }
    spis = {(line["name"], line["serial"]): line for line in _matches(_SPIS, status)}
    sas: dict[str, tuple[ChildSa, ...]] = {}
    for line in _matches(_TRAFFIC, traffic_status):
        name, key = line["name"], (line["name"], line["serial"])
        sa = ChildSa(
            serial=int(line["serial"]),
            added=int(line["added"]),
            bytes_in=int(line["in"]),
            bytes_out=int(line["out"]),
            spi_in=_spi(spis[key]["in"]) if key in spis else "",
            spi_out=_spi(spis[key]["out"]) if key in spis else "",
            rekey_in=rekeys.get(key),
        )
        others = (other for other in sas.get(name, ()) if other.serial != sa.serial)
        sas[name] = tuple(sorted((*others, sa), key=lambda child: child.serial))
    return sas


def parse_ike(status: str) -> dict[str, Ike]:
    """Return the states of the IKE SAs, by the names of the connections that own them."""
    states: dict[str, Ike] = {}
    for line in _matches(_STATE_TEXT, status):
        name, text = line["name"], line["text"]
        if text == "established IKE SA":
            states[name] = Ike.ESTABLISHED
        elif not text.startswith("established "):
            states.setdefault(name, Ike.NEGOTIATING)
    return states


def parse_listening(status: str) -> tuple[str, ...]:
    """Return the sockets on which pluto listens, as ADDRESS:PORT, from `--status`."""
    matches = (re.match(_INTERFACE, line) for line in status.splitlines())
    return tuple(f"{match['address']}:{match['port']}" for match in matches if match)


def parse_parents(status: str) -> dict[str, str]:
    """Return, by connection, which connection owns the IKE SA of its newest Child SA.

    Empty if that IKE SA no longer exists.
    """
    states = list(_matches(_STATE_TEXT, status))
    owners = {line["serial"]: line["name"] for line in states}
    children = sorted(
        (int(line["serial"]), line["name"], parent[1])
        for line in states
        if line["text"] == "established Child SA" and (parent := re.search(_PARENT, line["timers"]))
    )
    return {name: owners.get(parent, "") for _, name, parent in children}


def parse_established(traffic_status: str) -> frozenset[str]:
    """Return the names of the connections that have a Child SA, also in the kernel."""
    return frozenset(parse_child_sas("", traffic_status))


def parse_shunts(status: str) -> tuple[Shunt, ...]:
    """Return the bare shunts from what `--shuntstatus` or `--status` prints."""
    return tuple(
        Shunt(source, destination, line["policy"])
        for line in _matches(_SHUNT, status)
        if (source := _network(line["source"])) and (destination := _network(line["destination"]))
    )


def parse_algorithms(output: str) -> tuple[str, ...]:
    """Return the algorithms that `ipsec algparse` prints, as pluto writes them."""
    return tuple(line["algorithm"] for line in _matches(_ALGORITHM, output))


def _matches(pattern: str, text: str) -> Iterator[re.Match[str]]:
    return (match for line in text.split("\n") if (match := re.match(pattern, line)))


def _spi(digits: str) -> str:
    return f"0x{digits:>08}"


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


def _same_side(loaded: Side, wanted: Side) -> bool:
    ike_ports = (loaded.ike_port, wanted.ike_port)
    return (None in ike_ports or loaded.ike_port == wanted.ike_port) and (
        (loaded.host, loaded.network, loaded.protocol, loaded.port)
        == (wanted.host, wanted.network, wanted.protocol, wanted.port)
    )


def cables(loaded: dict[str, LoadedConnection]) -> dict[str, tuple[Connection, ...]]:
    """Return the connections of each cable that pluto has loaded, by the cable's name."""
    cables: dict[str, tuple[Connection, ...]] = {}
    for name, entry in loaded.items():
        cable = cable_of(name, entry)
        if cable and entry.selectors and _is_overlay_or_any(entry.selectors.local.protocol):
            local, remote = _end(entry.selectors.local), _end(entry.selectors.remote)
            connection = Connection(name, _mode(entry.selectors), local, remote)
            cables[cable] = (*cables.get(cable, ()), connection)
    return cables


def _is_overlay_or_any(protocol: str | None) -> bool:
    return protocol is None or IpProtocol.named(protocol) is not None


def cable_of(name: str, loaded: LoadedConnection) -> str:
    """Return the name of the connection's cable; empty if the connection belongs to no cable.

    A connection has its cable's name and one number in transport mode, two in tunnel mode.
    """
    if not name.startswith(CABLE) or loaded.selectors is None:
        return ""
    numbers = 1 if _mode(loaded.selectors) is Mode.TRANSPORT else 2
    return name.rsplit("-", numbers)[0]


def _mode(selectors: Selectors) -> Mode:
    """Return transport if the selectors are the two hosts themselves, else tunnel."""
    sides = (selectors.local, selectors.remote)
    hosts_only = all(side.network == _host_network(side.host) for side in sides)
    return Mode.TRANSPORT if hosts_only else Mode.TUNNEL


def _end(side: Side) -> End:
    return End(
        host=ip_address(side.host) if side.host else None,
        network=ip_network(side.network),
        ike_port=side.ike_port,
        protocol=IpProtocol.named(side.protocol) if side.protocol else None,
        port=side.port,
    )


def _host_network(host: str | None) -> str:
    return f"{host}/{128 if ':' in (host or '') else 32}"


def _parse_selectors(text: str) -> Selectors | None:
    local, _, remote = text.partition("...")
    local_side, remote_side = _side(re.match(_LOCAL, local)), _side(re.match(_REMOTE, remote))
    return Selectors(local_side, remote_side) if local_side and remote_side else None


def _side(match: re.Match[str] | None) -> Side | None:
    if not match:
        return None
    host: str | None = match["host"].strip("[]")
    port = match["port"]
    if host == "%any":
        host = None
    elif not _network(_host_network(host)):
        return None
    network = _network(match["network"] or _host_network(host))
    if not network:
        return None
    return Side(
        host,
        int(match["ike"]) if match["ike"] else None,
        network,
        match["protocol"].upper() if match["protocol"] else None,
        # 4.10 prints any port as 0-65535; 5.2 prints 0 for a protocol without ports.
        (int(port) or None) if port and port.isdecimal() else None,
    )


def _network(text: str) -> str:
    """Return the text if it is a network, else an empty text."""
    try:
        ip_network(text)
    except ValueError:
        return ""
    return text
