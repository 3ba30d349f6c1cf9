"""Parsers of what pluto prints: its connections, its shunts, and the addresses it listens on."""

import re

from msgspec import Struct
from msgspec.structs import replace

from cablectl.libreswan.limits import Limits, parse_limits
from cablectl.libreswan.lines import NUMBER, matches
from cablectl.libreswan.pluto_states import (
    ChildSa,
    Ike,
    Negotiations,
    parse_child_sas,
    parse_established,
    parse_ike,
    parse_negotiations,
    parse_parents,
    parse_serials,
    parse_unanswered,
)
from cablectl.libreswan.traffic_selectors import (
    Selectors,
    Side,
    end_of,
    mode_of,
    network_of,
    parse_selectors,
    same,
    selectors,
)
from cablectl.model.connection import Connection
from cablectl.model.wishes import CABLE, IpProtocol, Mode

__all__ = (
    "ChildSa",
    "Ike",
    "LoadedConnection",
    "Negotiations",
    "Selectors",
    "Shunt",
    "Side",
    "Status",
    "cable_of",
    "cables",
    "connection_of",
    "parse",
    "parse_algorithms",
    "parse_child_sas",
    "parse_connections",
    "parse_established",
    "parse_ike",
    "parse_listening",
    "parse_negotiations",
    "parse_parents",
    "parse_shunts",
    "parse_unanswered",
    "same",
    "selectors",
)


SETTLED = 10  # seconds; a rekeying deletes the old Child SA before that
# Seconds after which the end that waits deletes what is too many: the other one doesn't know of it.
FORGOTTEN = 25


class LoadedConnection(Struct, frozen=True):
    """A connection that pluto has loaded."""

    routed: bool
    up: bool
    selectors: Selectors | None  # None if pluto's line has an unknown form
    child_sas: tuple[ChildSa, ...] = ()
    ike: Ike = Ike.NONE
    esp: tuple[str, ...] = ()  # its own algorithms as pluto prints them; empty for the defaults
    ike_algorithms: tuple[str, ...] = ()  # likewise
    limits: Limits = Limits()
    lost: bool = False  # pluto has a Child SA, but the kernel lacks one of its two SAs
    serials: tuple[int, ...] = ()  # the state numbers of all Child SAs that pluto has
    # Of the Child SA that pluto sends with, in seconds, if the connection has several. Otherwise 0,
    # so that two readings of an unchanged host are equal.
    age: float = 0
    # The connection that owns the IKE SA of the newest Child SA; None if pluto lists no Child SA.
    # Empty if that IKE SA no longer exists: the peer has removed the Child SA with it.
    ike_of: str | None = None
    unoriented: bool = False  # pluto found neither end's address on an interface that it may use
    insists: bool | None = None  # whether it refuses a peer without a PPK; None: unknown
    more_subnets: bool = False  # pluto prints further selectors, which no connection of a cable has

    def superseded(self, settled: float) -> tuple[int, ...]:
        """Return the state numbers of the Child SAs that have a successor since so many seconds.

        Both ends send with the newest one by then, so to delete the others loses no packet.
        """
        return tuple(sa.serial for sa in self.child_sas[:-1]) if self.age >= settled else ()

    def joins(self, wanted: Selectors) -> bool:
        """Return whether it has these selectors; True if its own could not be parsed."""
        return not self.more_subnets and (self.selectors is None or same(self.selectors, wanted))


class Shunt(Struct, frozen=True):
    """A kernel policy that pluto installed without a connection."""

    source: str  # a network
    destination: str  # a network
    policy: str  # hold, pass or drop


class Status(Struct, frozen=True):
    """Pluto's loaded connections by name, and its bare shunts."""

    connections: dict[str, LoadedConnection]
    shunts: tuple[Shunt, ...] = ()


# The words for a connection whose policies are in the kernel: 4.x, then 5.x. An unknown word counts
# as not routed, because nothing may be called protected that pluto doesn't say is. So do the words
# for policies that ask for no SA and may let packets pass: `fail erouted` and `routed-failure`,
# `routed-never-negotiate`. An `eroute eclipsed` isn't in the kernel (source).
_ROUTED = frozenset(
    {
        "prospective erouted",
        "erouted HOLD",
        "erouted",
        "routed-ondemand",
        "routed-negotiation",
        "routed-inbound-negotiation",
        "routed-tunnel",
    }
)
_UNORIENTED = "unoriented"

# Compiled at first use: compiling takes a millisecond each, and a dry run needs none of them.
# Each pattern includes the text after a number, so that a number is never matched in part.
_NAME = rf'{NUMBER}"(?P<name>[^"]+)"'
# What follows the routing is part of the pattern, since an identity may have semicolons. An
# instance, "name"[1], doesn't match.
_CONNECTION = (
    rf"{_NAME}: (?P<selectors>[^ ].*\.\.\..+);"
    r" (?P<routing>[A-Za-z][A-Za-z, -]*); (?:eroute owner: #|my_ip=)"
)
_UNORIENTED_LINE = (
    rf"{_NAME}: {{5}}{_UNORIENTED};"  # up to 4.15; 5.x has it in place of the routing
)
_ALGORITHMS = rf"{_NAME}:   (?P<kind>ESP|IKE) algorithms: (?P<algorithms>[^\n]+)$"
_POLICY = rf"{_NAME}:   policy: (?P<policy>[^;\n]+);"
_ALGORITHM = r"^\t(?P<algorithm>\S+)$"
_INTERFACE = (
    r"(?:\d{3} )?interface \S+ (?:UDP )?(?P<address>\S+?):(?:UDP/)?(?P<port>\d{1,5})(?: |$)"
)
_SHUNT = (
    r"^(?:\d{3} )?(?P<source>[\da-fA-F.:]+/\d{1,3})\S* -\w+->"
    r" (?P<destination>[\da-fA-F.:]+/\d{1,3})\S* => %(?P<policy>\w+)\s"
)


def parse(status: str, traffic_status: str, now: float = 0) -> Status:
    """Return the connections and shunts that `--status` and `--trafficstatus` print.

    `now` is the time in seconds since 1970.
    """
    connections = {
        name: replace(loaded, age=now - loaded.child_sas[-1].added)
        if len(loaded.child_sas) > 1
        else loaded
        for name, loaded in parse_connections(status, traffic_status).items()
    }
    return Status(connections, parse_shunts(status))


def parse_connections(status: str, traffic_status: str) -> dict[str, LoadedConnection]:
    """Return the loaded connections by name, from `--status` and `--trafficstatus`.

    A connection is up if it has a Child SA, also in the kernel, and that Child SA's IKE SA exists.
    An IKE SA alone carries no traffic; without the IKE SA the peer has removed the Child SA. Read
    `--trafficstatus` first, so that `--status` has the state of every Child SA.
    An instance of a connection to any host counts as that connection, which stays unrouted.
    """
    sas, ike = parse_child_sas(status, traffic_status), parse_ike(status)
    parents = parse_parents(status)
    algorithms = {
        (line["kind"], line["name"]): tuple(line["algorithms"].split(", "))
        for line in matches(_ALGORITHMS, status)
    }
    limits = parse_limits(status)
    insists = {
        line["name"]: "PPK_INSIST" in line["policy"].split("+") for line in matches(_POLICY, status)
    }
    serials = parse_serials(traffic_status)
    unoriented = {line["name"] for line in matches(_UNORIENTED_LINE, status)}
    return {
        name: LoadedConnection(
            routed=all(line["routing"] in _ROUTED for line in lines),
            up=name in sas and bool(parents.get(name)),
            selectors=parse_selectors(lines[0]["selectors"]),
            child_sas=sas.get(name, ()),
            ike=ike.get(name, Ike.NONE),
            esp=algorithms.get(("ESP", name), ()),
            ike_algorithms=algorithms.get(("IKE", name), ()),
            limits=limits.get(name, Limits()),
            lost=name in serials.keys() - sas.keys(),
            serials=serials.get(name, ()),
            ike_of=parents.get(name),
            insists=insists.get(name),
            unoriented=name in unoriented or lines[0]["routing"] == _UNORIENTED,
            more_subnets=len({line["selectors"] for line in lines}) > 1,
        )
        for name, lines in _connection_lines(status).items()
    }


def _connection_lines(status: str) -> dict[str, list[re.Match[str]]]:
    """Return the lines of each connection: pluto prints one for each pair of networks."""
    lines: dict[str, list[re.Match[str]]] = {}
    for line in matches(_CONNECTION, status):
        lines.setdefault(line["name"], []).append(line)
    return lines


def parse_listening(status: str) -> tuple[str, ...]:
    """Return the sockets on which pluto listens, as ADDRESS:PORT, from `--status`."""
    found = (re.match(_INTERFACE, line) for line in status.splitlines())
    return tuple(f"{match['address']}:{match['port']}" for match in found if match)


def parse_shunts(status: str) -> tuple[Shunt, ...]:
    """Return the bare shunts from what `--shuntstatus` or `--status` prints."""
    return tuple(
        Shunt(source, destination, line["policy"])
        for line in matches(_SHUNT, status)
        if (source := network_of(line["source"]))
        and (destination := network_of(line["destination"]))
    )


def parse_algorithms(output: str) -> tuple[str, ...]:
    """Return the algorithms that `ipsec algparse` prints, as pluto writes them."""
    return tuple(line["algorithm"] for line in matches(_ALGORITHM, output))


def cables(loaded: dict[str, LoadedConnection]) -> dict[str, tuple[Connection, ...]]:
    """Return the connections of each cable that pluto has loaded, by the cable's name."""
    cables: dict[str, tuple[Connection, ...]] = {}
    for name, entry in loaded.items():
        cable = cable_of(name, entry)
        if cable and (connection := connection_of(name, entry)):
            cables[cable] = (*cables.get(cable, ()), connection)
    return cables


def connection_of(name: str, loaded: LoadedConnection) -> Connection | None:
    """Return a loaded connection as a cable has it; None if no cable has such a connection."""
    ends = loaded.selectors
    if ends is None or not _is_overlay_or_any(ends.local.protocol):
        return None
    return Connection(name, mode_of(ends), end_of(ends.local), end_of(ends.remote))


def _is_overlay_or_any(protocol: str | None) -> bool:
    return protocol is None or IpProtocol.named(protocol) is not None


def cable_of(name: str, loaded: LoadedConnection) -> str:
    """Return the name of the connection's cable; empty if the connection belongs to no cable.

    A connection has its cable's name and one number, or two if it joins two subnets.
    """
    if not name.startswith(CABLE) or loaded.selectors is None or loaded.more_subnets:
        return ""
    one = mode_of(loaded.selectors) is Mode.TRANSPORT or loaded.selectors.local.protocol
    numbers = 1 if one else 2
    return name.rsplit("-", numbers)[0]
