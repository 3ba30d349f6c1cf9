"""What pluto prints, as values: which connections it has, which are up, why one is not."""

import re
from collections.abc import Iterator
from enum import StrEnum
from ipaddress import ip_address, ip_network

from msgspec import Struct

from cablectl.model.cable import Connection, End
from cablectl.model.wishes import CABLE, IpProtocol, Mode


class Side(Struct, frozen=True):
    """One end of a loaded connection, as pluto prints it; None is any, or pluto's own."""

    host: str | None
    ike_port: int | None
    network: str
    protocol: str | None
    port: int | None


class Selectors(Struct, frozen=True):
    """Whom a loaded connection joins."""

    local: Side
    remote: Side


class Ike(StrEnum):
    """How far a connection's IKE SA is; of those that share one, one alone has it."""

    NONE = "none"
    NEGOTIATING = "negotiating"
    ESTABLISHED = "established"


class ChildSa(Struct, frozen=True):
    """A pair of SAs of a connection, in and out.

    `serial` is pluto's own number; an SPI is written as the kernel does, and is empty where pluto
    didn't tell; `added` is when, in seconds since 1970; `rekey_in` is in seconds.
    """

    serial: int
    added: int
    bytes_in: int
    bytes_out: int
    spi_in: str = ""
    spi_out: str = ""
    rekey_in: int | None = None


class LoadedConnection(Struct, frozen=True):
    """A connection that pluto has; `selectors` is None where its line has a form unknown here.

    `esp` are the algorithms that it was told, in its own words; none if it has its defaults.
    `lost` says that pluto believes in a Child SA of which the kernel doesn't have both SAs.
    `ike_of` names the connection that has the IKE SA of its newest Child SA: empty if that IKE SA
    is gone, and with it what the peer had of the Child SA; None if pluto didn't tell.
    """

    routed: bool
    up: bool
    selectors: Selectors | None
    child_sas: tuple[ChildSa, ...] = ()
    ike: Ike = Ike.NONE
    esp: tuple[str, ...] = ()
    lost: bool = False
    ike_of: str | None = None

    def joins(self, wanted: Selectors) -> bool:
        """Tell whether it joins these, as far as its line could be read."""
        return self.selectors is None or same(self.selectors, wanted)


class Shunt(Struct, frozen=True):
    """What pluto has the kernel do with packets for which no connection stands: hold, pass, drop.

    Source and destination are networks.
    """

    source: str
    destination: str
    policy: str


class Status(Struct, frozen=True):
    """What pluto has: the connections by name, and the bare shunts."""

    connections: dict[str, LoadedConnection]
    shunts: tuple[Shunt, ...] = ()


# Compiled at first use: a dry run needs none of them, and each costs it a millisecond. A number is
# only taken whole, with what stands behind it.
_CONNECTION = (
    r'^(?:\d{3} )?"(?P<name>[^"]+)"(?P<instance>\[\d+\])?: '
    r"(?P<selectors>[^; ]+\.\.\.[^; ]+); (?P<routing>[^;]+);"
)
_PROTOPORT = r"[:/](?P<protocol>[A-Za-z\d]{1,15})(?:/(?P<port>[\d-]{1,11}))?"
_NETWORK = rf"(?P<network>[^/\[=]+/\d{{1,3}})(?:{_PROTOPORT})?"
_HOST = r"(?P<host>\[[^]]+\]|[^:\[=]+)(?::(?P<ike>\d{1,5}))?(?:\[[^]]*\])?"
_LOCAL = rf"(?:{_NETWORK}===)?{_HOST}$"
_REMOTE = rf"{_HOST}(?:==={_NETWORK})?$"
# An instance has the peer's address behind its number.
_STATE = r'^(?:\d{3} )?#(?P<serial>\d{1,19}): "(?P<name>[^"]+)"(?:\[\d+\] [^ ",#]+)?'
_BELIEVED = rf"{_STATE}, type=ESP, add_time=(?P<added>\d{{1,19}}),"
# The bytes are the kernel's: without an SA there, they are missing.
_TRAFFIC = rf"{_BELIEVED} inBytes=(?P<in>\d{{1,20}}), outBytes=(?P<out>\d{{1,20}}),"
_STORY = rf"{_STATE}:\d+ \w+ \((?P<story>[^()]+)\);(?P<timers>.*)"
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
    """Return what `--status` and `--trafficstatus` print."""
    return Status(parse_connections(status, traffic_status), parse_shunts(status))


def parse_connections(status: str, traffic_status: str) -> dict[str, LoadedConnection]:
    """Return the loaded connections by name from what `--status` and `--trafficstatus` print.

    A connection is up only if it has a Child SA, in the kernel as well, whose IKE SA stands: an IKE
    SA alone carries nothing, and without one the peer has let go of the Child SA. Instances of a
    connection to any host count as the connection itself, which stays unrouted.
    """
    sas, ike = parse_child_sas(status, traffic_status), parse_ike(status)
    parents = parse_parents(status)
    esp = {line["name"]: tuple(line["esp"].split(", ")) for line in _lines(_ESP, status)}
    believed = {line["name"] for line in _lines(_BELIEVED, traffic_status)}
    return {
        line["name"]: LoadedConnection(
            routed=line["routing"] != "unrouted",
            up=line["name"] in sas and parents.get(line["name"]) != "",
            selectors=_parse_selectors(line["selectors"]),
            child_sas=sas.get(line["name"], ()),
            ike=ike.get(line["name"], Ike.NONE),
            esp=esp.get(line["name"], ()),
            lost=line["name"] in believed - sas.keys(),
            ike_of=parents.get(line["name"]),
        )
        for line in _lines(_CONNECTION, status)
        if not line["instance"]
    }


def parse_child_sas(status: str, traffic_status: str) -> dict[str, tuple[ChildSa, ...]]:
    """Return the Child SAs by the name of their connection, the newest last.

    `--trafficstatus` has the SAs and what they carried; `--status`, or `--showstates`, their SPIs
    and when they are replaced.
    """
    rekeys = {
        (line["name"], line["serial"]): min(map(int, told))
        for line in _lines(_STORY, status)
        if (told := re.findall(_REKEY, line["timers"]))
    }
    spis = {(line["name"], line["serial"]): line for line in _lines(_SPIS, status)}
    found: dict[str, tuple[ChildSa, ...]] = {}
    for line in _lines(_TRAFFIC, traffic_status):
        name, which = line["name"], (line["name"], line["serial"])
        sa = ChildSa(
            serial=int(line["serial"]),
            added=int(line["added"]),
            bytes_in=int(line["in"]),
            bytes_out=int(line["out"]),
            spi_in=_spi(spis[which]["in"]) if which in spis else "",
            spi_out=_spi(spis[which]["out"]) if which in spis else "",
            rekey_in=rekeys.get(which),
        )
        others = (each for each in found.get(name, ()) if each.serial != sa.serial)
        found[name] = tuple(sorted((*others, sa), key=lambda each: each.serial))
    return found


def parse_ike(status: str) -> dict[str, Ike]:
    """Return how far the IKE SAs are, by the names of the connections that have one."""
    found: dict[str, Ike] = {}
    for line in _lines(_STORY, status):
        name, story = line["name"], line["story"]
        if story == "established IKE SA":
            found[name] = Ike.ESTABLISHED
        elif not story.startswith("established "):
            found.setdefault(name, Ike.NEGOTIATING)
    return found


def parse_listening(status: str) -> tuple[str, ...]:
    """Return where pluto hears IKE, as ADDRESS:PORT, by what `--status` prints."""
    found = (re.match(_INTERFACE, line) for line in status.splitlines())
    return tuple(f"{each['address']}:{each['port']}" for each in found if each)


def parse_parents(status: str) -> dict[str, str]:
    """Return which connection has the IKE SA of a connection's newest Child SA; empty: none has."""
    stories = list(_lines(_STORY, status))
    holders = {line["serial"]: line["name"] for line in stories}
    children = sorted(
        (int(line["serial"]), line["name"], told[1])
        for line in stories
        if line["story"] == "established Child SA" and (told := re.search(_PARENT, line["timers"]))
    )
    return {name: holders.get(parent, "") for _, name, parent in children}


def parse_established(traffic_status: str) -> frozenset[str]:
    """Return the names of the connections that have a Child SA, in the kernel as well."""
    return frozenset(parse_child_sas("", traffic_status))


def parse_shunts(status: str) -> tuple[Shunt, ...]:
    """Return the bare shunts from what `--shuntstatus`, or `--status`, prints."""
    lines = _lines(_SHUNT, status)
    found = ((_network(each["source"]), _network(each["destination"]), each) for each in lines)
    return tuple(Shunt(one, other, each["policy"]) for one, other, each in found if one and other)


def parse_algorithms(told: str) -> tuple[str, ...]:
    """Return the algorithms that `ipsec algparse` made out, in pluto's own words."""
    return tuple(line["algorithm"] for line in _lines(_ALGORITHM, told))


def _lines(pattern: str, text: str) -> Iterator[re.Match[str]]:
    return (found for line in text.split("\n") if (found := re.match(pattern, line)))


def _spi(digits: str) -> str:
    return f"0x{digits:>08}"


def selectors(connection: Connection) -> Selectors:
    """Return what pluto prints of a connection that `libreswan.add` loaded."""

    def side(end: End) -> Side:
        protocol = end.protocol.upper() if end.protocol else None
        host = None if end.host is None else str(end.host)
        return Side(host, end.ike_port, str(end.network), protocol, end.port_number)

    return Selectors(side(connection.local), side(connection.remote))


def same(loaded: Selectors, wanted: Selectors) -> bool:
    """Tell whether they join the same; an IKE port that wasn't told is pluto's to choose."""

    def alike(one: Side, other: Side) -> bool:
        fields = ("host", "network", "protocol", "port")
        ports = None in (one.ike_port, other.ike_port) or one.ike_port == other.ike_port
        return ports and all(getattr(one, name) == getattr(other, name) for name in fields)

    return alike(loaded.local, wanted.local) and alike(loaded.remote, wanted.remote)


def cables(loaded: dict[str, LoadedConnection]) -> dict[str, tuple[Connection, ...]]:
    """Return the cables among pluto's connections: what their names share, and the connections.

    Their names end in one number in transport mode, in two in tunnel mode.
    """
    found: dict[str, tuple[Connection, ...]] = {}
    for name, each in loaded.items():
        cable = cable_of(name, each)
        if cable and each.selectors and _is_overlay_or_any(each.selectors.local.protocol):
            ends = (_end(each.selectors.local), _end(each.selectors.remote))
            found[cable] = (*found.get(cable, ()), Connection(name, _mode(each.selectors), *ends))
    return found


def _is_overlay_or_any(protocol: str | None) -> bool:
    return protocol is None or IpProtocol.named(protocol) is not None


def cable_of(name: str, loaded: LoadedConnection) -> str:
    """Return what the names of a cable's connections share; empty if it isn't a cable's."""
    if not name.startswith(CABLE) or loaded.selectors is None:
        return ""
    return name.rsplit("-", 1 if _mode(loaded.selectors) is Mode.TRANSPORT else 2)[0]


def _mode(selectors: Selectors) -> Mode:
    """Tell the mode from what is joined: the hosts themselves, or networks behind them."""
    ends = (selectors.local, selectors.remote)
    alone = all(side.network == _alone(side.host) for side in ends)
    return Mode.TRANSPORT if alone else Mode.TUNNEL


def _end(side: Side) -> End:
    return End(
        host=ip_address(side.host) if side.host else None,
        network=ip_network(side.network),
        ike_port=side.ike_port,
        protocol=IpProtocol.named(side.protocol) if side.protocol else None,
        port=side.port,
    )


def _alone(host: str | None) -> str:
    return f"{host}/{128 if ':' in (host or '') else 32}"


def _parse_selectors(text: str) -> Selectors | None:
    local, _, remote = text.partition("...")
    ours, theirs = _side(re.match(_LOCAL, local)), _side(re.match(_REMOTE, remote))
    return Selectors(ours, theirs) if ours and theirs else None


def _side(found: re.Match[str] | None) -> Side | None:
    if not found:
        return None
    host: str | None = found["host"].strip("[]")
    port = found["port"]
    if host == "%any":
        host = None
    elif not _network(_alone(host)):
        return None
    network = _network(found["network"] or _alone(host))  # the host itself
    if not network:
        return None
    return Side(
        host,
        int(found["ike"]) if found["ike"] else None,
        network,
        found["protocol"].upper() if found["protocol"] else None,
        # 4.10 prints any as 0-65535, and 5.2 those of a protocol without ports as 0.
        (int(port) or None) if port and port.isdecimal() else None,
    )


def _network(text: str) -> str:
    """Return the network if it is one; else nothing."""
    try:
        ip_network(text)
    except ValueError:
        return ""
    return text
