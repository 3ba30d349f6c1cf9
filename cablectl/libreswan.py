"""What each Libreswan takes and prints: dialects as data, the argv of `whack`, parsers of output.

Measured on 4.10 and 5.2, read in the sources of 5.3: docs/libreswan.md has the table.
"""

import re
from enum import StrEnum

from msgspec import Struct

from cablectl.errors import UsageError
from cablectl.model import Cable, Connection, Encapsulation, Offload, Selector

Argv = tuple[str, ...]

WHACK: Argv = ("ipsec", "whack")
LISTEN: Argv = (*WHACK, "--listen")  # also reads the secrets again
REREAD_SECRETS: Argv = (*WHACK, "--rereadsecrets")
STATUS: Argv = (*WHACK, "--status")
TRAFFIC_STATUS: Argv = (*WHACK, "--trafficstatus")
STACK_MANAGER: Argv = ("ipsec", "_stackmanager", "start")


class Version(Struct, frozen=True, order=True):
    """A release of Libreswan."""

    major: int
    minor: int

    def __str__(self) -> str:
        """Write it as Libreswan does."""
        return f"{self.major}.{self.minor}"


class PfsForm(StrEnum):
    """How the PFS group is told."""

    FLAG = "--pfsgroup GROUP"
    IN_ESP = "--esp 'ALG;GROUP'"


class Dialect(Struct, frozen=True, kw_only=True):
    """The flags of a range of releases, beginning with `since`."""

    since: Version
    transport: Argv = ("--transport",)
    encapsulate: Argv = ("--encaps", "yes")
    pfs: PfsForm = PfsForm.FLAG
    no_offload: Argv = ()  # where it is what happens without a flag
    dpd_action: bool = False
    stack_manager: bool = True


DIALECTS = (
    Dialect(
        since=Version(4, 0),
        transport=(),
        encapsulate=("--forceencaps",),
        no_offload=("--nic-offload", "no"),
        dpd_action=True,
    ),
    Dialect(since=Version(5, 0)),
    Dialect(since=Version(5, 3), pfs=PfsForm.IN_ESP, stack_manager=False),
)
LATEST = DIALECTS[-1].since


def parse_version(text: str) -> Version:
    """Return the release named in `text`, such as `Libreswan 4.10` or `5.2`; else UsageError."""
    found = re.search(r"(?<![\w.])v?(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?![\d.])", text)
    if not found:
        raise UsageError(f"{text.strip()!r} is not a Libreswan version", hint="for example 4.10")
    version = Version(int(found[1]), int(found[2]))
    if version < DIALECTS[0].since:
        raise UsageError(
            f"Libreswan {version} is too old", hint=f"{DIALECTS[0].since} is the oldest"
        )
    return version


def dialect(version: Version) -> Dialect:
    """Return what that release speaks."""
    return next(each for each in reversed(DIALECTS) if each.since <= version)


def add(cable: Cable, connection: Connection, version: Version) -> Argv:
    """Load a connection into pluto."""
    speaks, ipsec = dialect(version), cable.ipsec
    return (
        *WHACK,
        "--psk",
        "--encrypt",
        *speaks.transport,
        *_encapsulation(ipsec.encapsulation, speaks),
        "--name",
        connection.name,
        *_end(connection.local, ipsec.ike_port),
        "--to",
        *_end(connection.remote, ipsec.ike_port),
        *_algorithms(cable, speaks),
        *(speaks.no_offload if ipsec.offload is Offload.OFF else ()),
        *_dead_peer_detection(cable, speaks),
    )


def route(name: str) -> Argv:
    """Install the trap policies: from here on its traffic is encrypted or dropped."""
    return (*WHACK, "--route", "--name", name)


def unroute(name: str) -> Argv:
    """Remove the trap policies; only after `terminate`, or 4.10 dies."""
    return (*WHACK, "--unroute", "--name", name)


def initiate(name: str) -> Argv:
    """Begin the negotiation and don't wait for its end."""
    return (*WHACK, "--initiate", "--asynchronous", "--name", name)


def initiate_and_tell(name: str) -> Argv:
    """Begin the negotiation and print how it goes: the one way to see the peer's refusal."""
    return (*WHACK, "--initiate", "--name", name)


def terminate(name: str) -> Argv:
    """Take the SAs down and leave the connection loaded."""
    return (*WHACK, "--terminate", "--name", name)


def delete(name: str) -> Argv:
    """Unload a connection, its SAs and its policies."""
    return (*WHACK, "--delete", "--name", name)


def _end(selector: Selector, ike_port: int) -> Argv:
    protoport = "udp" if selector.port is None else f"udp/{selector.port}"
    host = str(selector.host)
    return ("--host", host, "--clientprotoport", protoport, "--ikeport", str(ike_port))


def _encapsulation(asked: Encapsulation, speaks: Dialect) -> Argv:
    if asked is Encapsulation.AUTO:
        return ()
    return speaks.encapsulate if asked is Encapsulation.YES else ("--encaps", "no")


def _algorithms(cable: Cable, speaks: Dialect) -> Argv:
    group, esp = cable.ipsec.pfs_group, ",".join(cable.ipsec.esp)
    if group and speaks.pfs is PfsForm.IN_ESP:
        if not esp:
            raise UsageError(
                f"ipsec.pfs_group: Libreswan {speaks.since} and later take it only with ipsec.esp",
                hint="for example esp: [aes_gcm-null]",
            )
        return ("--pfs", "--esp", ",".join(f"{each};{group}" for each in cable.ipsec.esp))
    pfs = ("--pfs", "--pfsgroup", group) if group else ()
    return (*pfs, *(("--esp", esp) if esp else ()))


def _dead_peer_detection(cable: Cable, speaks: Dialect) -> Argv:
    dpd = cable.ipsec.dpd
    if dpd is None:
        return ()
    action = ("--dpdaction", dpd.action.value) if speaks.dpd_action else ()
    return (*action, "--dpddelay", str(dpd.delay))


class Selectors(Struct, frozen=True):
    """Whom a loaded connection joins: hosts as pluto prints them; a port of None is any port."""

    local: str
    local_port: int | None
    local_ike_port: int
    remote: str
    remote_port: int | None
    remote_ike_port: int


class LoadedConnection(Struct, frozen=True):
    """A connection that pluto has; `selectors` is None where its line has a form unknown here."""

    routed: bool
    up: bool
    selectors: Selectors | None


# Compiled at first use: a dry run needs none of them, and each costs it a millisecond.
_CONNECTION = (
    r'^(?:\d{3} )?"(?P<name>[^"]+)"(?:\[\d+\])?: (?P<selectors>[^;]*===[^;]*); (?P<routing>[^;]+);'
)
_SELECTORS = (
    r"^(?P<local>[^/]+)/\d+[:/]UDP(?:/(?P<local_port>[\d-]+))?==="
    r"(?P=local):(?P<local_ike>\d+)(?:\[[^]]*\])?\.\.\."
    r"(?P<remote>[^\[=]+):(?P<remote_ike>\d+)(?:\[[^]]*\])?==="
    r"(?P=remote)/\d+[:/]UDP(?:/(?P<remote_port>[\d-]+))?$"
)
_CHILD_SA = r'^(?:\d{3} )?#\d+: "(?P<name>[^"]+)"(?:\[\d+\][^,]*)?, type=ESP,'


def parse_connections(status: str, traffic_status: str) -> dict[str, LoadedConnection]:
    """Return the loaded connections by name from what `--status` and `--trafficstatus` print.

    A connection is up only if it has a Child SA: an IKE SA alone carries nothing.
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
        if line
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
        r"NO_PROPOSAL_CHOSEN",
        "the peer accepts none of our proposals, or has no such connection",
        "has the peer run connect, with the same file?",
    ),
    (
        r"TS_UNACCEPTABLE",
        "the peer has other traffic selectors",
        "are vxlan.port and mode the same at both ends?",
    ),
    (
        r"Function not implemented|netlink response for Add SA",
        "the kernel took no SA",
        "does this kernel have ESP and the ciphers of ipsec.esp?",
    ),
)


def parse_refusal(output: str) -> Refusal | None:
    """Return why a negotiation in the foreground failed; None if pluto says nothing of it."""
    for line in output.splitlines():
        for pattern, reason, remedy in _REFUSALS:
            if re.search(pattern, line):
                return Refusal(reason, remedy, line)
    return None


def selectors(cable: Cable, connection: Connection) -> Selectors:
    """Return what pluto prints of a connection loaded by `add`."""
    ike = cable.ipsec.ike_port
    local, remote = connection.local, connection.remote

    def number(selector: Selector) -> int | None:
        return None if selector.port is None else cable.vxlan.port_number

    return Selectors(str(local.host), number(local), ike, str(remote.host), number(remote), ike)


def _parse_selectors(text: str) -> Selectors | None:
    found = re.match(_SELECTORS, text)
    if not found:
        return None

    def port(value: str | None) -> int | None:
        return int(value) if value and value.isdecimal() else None  # 4.x prints any as 0-65535

    return Selectors(
        found["local"],
        port(found["local_port"]),
        int(found["local_ike"]),
        found["remote"],
        port(found["remote_port"]),
        int(found["remote_ike"]),
    )
