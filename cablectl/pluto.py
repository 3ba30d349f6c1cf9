"""What pluto prints, as values: which connections it has, which are up, why one is not."""

import re
from ipaddress import ip_address, ip_network

from msgspec import Struct

from cablectl.cable import Connection, End
from cablectl.model import CABLE, Mode


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


class LoadedConnection(Struct, frozen=True):
    """A connection that pluto has; `selectors` is None where its line has a form unknown here."""

    routed: bool
    up: bool
    selectors: Selectors | None

    def joins(self, wanted: Selectors) -> bool:
        """Tell whether it joins these, as far as its line could be read."""
        return self.selectors is None or same(self.selectors, wanted)


# Compiled at first use: a dry run needs none of them, and each costs it a millisecond.
_CONNECTION = (
    r'^(?:\d{3} )?"(?P<name>[^"]+)"(?P<instance>\[\d+\])?: '
    r"(?P<selectors>[^; ]+\.\.\.[^; ]+); (?P<routing>[^;]+);"
)
_NETWORK = r"(?P<network>[^/\[=]+/\d+)(?:[:/](?P<protocol>[A-Z]+)(?:/(?P<port>[\d-]+))?)?"
_HOST = r"(?P<host>\[[^]]+\]|[^:\[=]+)(?::(?P<ike>\d+))?(?:\[[^]]*\])?"
_LOCAL = rf"(?:{_NETWORK}===)?{_HOST}$"
_REMOTE = rf"{_HOST}(?:==={_NETWORK})?$"
_CHILD_SA = r'^(?:\d{3} )?#\d+: "(?P<name>[^"]+)"(?:\[\d+\][^,]*)?, type=ESP,'


def parse_connections(status: str, traffic_status: str) -> dict[str, LoadedConnection]:
    """Return the loaded connections by name from what `--status` and `--trafficstatus` print.

    A connection is up only if it has a Child SA: an IKE SA alone carries nothing. Instances of a
    connection to any host count as the connection itself, which stays unrouted.
    """
    up = parse_established(traffic_status)
    found = (re.match(_CONNECTION, line) for line in status.splitlines())
    return {
        line["name"]: LoadedConnection(
            routed=line["routing"] != "unrouted",
            up=line["name"] in up,
            selectors=_parse_selectors(line["selectors"]),
        )
        for line in found
        if line and not line["instance"]
    }


def parse_established(traffic_status: str) -> frozenset[str]:
    """Return the names of the connections that have a Child SA."""
    return frozenset(
        found["name"]
        for line in traffic_status.splitlines()
        if (found := re.match(_CHILD_SA, line))
    )


class Refusal(Struct, frozen=True):
    """Why a negotiation failed: in words, what to do, and pluto's own line."""

    reason: str
    remedy: str
    line: str


_REFUSALS = (
    (
        r"AUTHENTICATION_FAILED|authentication failed",
        "authentication failed",
        "is the pre-shared key the same at both ends?",
    ),
    (
        r"no suitable connection found",
        "the peer asks for another connection than ours",
        "do both ends have the same file?",
    ),
    (
        r"NO_PROPOSAL_CHOSEN",
        "the peer accepts none of our proposals, or has no such connection",
        "has the peer run connect, with the same file? Does one end have Libreswan 4, the other 5"
        " or strongSwan? Then the file needs esn, maybe pfs_group (docs/libreswan.md)",
    ),
    (
        r"TS_UNACCEPTABLE|compatible Traffic Selectors",
        "the peer has other traffic selectors",
        "are mode, overlay, its port and the subnets the same at both ends?",
    ),
    (
        r"cannot identify ourselves",
        "pluto has neither of the connection's addresses",
        "is it this host's address (`ip address`)? Then: ipsec whack --listen",
    ),
    (r"need --listen", "pluto doesn't listen", "ipsec whack --listen"),
    (
        r"Function not implemented|netlink response for Add SA",
        "the kernel took no SA",
        "does this kernel have ESP and the ciphers of ipsec.esp?",
    ),
)


def parse_refusal(output: str) -> Refusal | None:
    """Return why a negotiation failed, by what pluto printed or logged; None if it doesn't say."""
    for line in output.splitlines():
        for pattern, reason, remedy in _REFUSALS:
            if re.search(pattern, line):
                return Refusal(reason, remedy, line)
    return None


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
        if cable and each.selectors:
            ends = (_end(each.selectors.local), _end(each.selectors.remote))
            found[cable] = (*found.get(cable, ()), Connection(name, _mode(each.selectors), *ends))
    return found


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
        protocol=side.protocol.lower() if side.protocol else None,
        port=side.port,
    )


def _alone(host: str | None) -> str:
    return f"{host}/{128 if ':' in (host or '') else 32}"


def _parse_selectors(text: str) -> Selectors | None:
    local, _, remote = text.partition("...")
    ends = (re.match(_LOCAL, local), re.match(_REMOTE, remote))
    if not (ends[0] and ends[1]):
        return None
    return Selectors(_side(ends[0]), _side(ends[1]))


def _side(found: re.Match[str]) -> Side:
    host = found["host"].strip("[]")
    port = found["port"]
    return Side(
        None if host == "%any" else host,
        int(found["ike"]) if found["ike"] else None,
        found["network"] or _alone(host),  # the host itself
        found["protocol"],
        # 4.10 prints any as 0-65535, and 5.2 those of a protocol without ports as 0.
        (int(port) or None) if port and port.isdecimal() else None,
    )
