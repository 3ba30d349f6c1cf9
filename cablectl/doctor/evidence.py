"""The evidence that doctor judges: the state of a host, read once, and the peer's replies."""

from enum import StrEnum

from msgspec import Struct

from cablectl.facts.host_facts import Facts, Link
from cablectl.linux.esp_offload import OffloadReport
from cablectl.linux.firewall.filters import Chain
from cablectl.linux.sockets import Process, Socket
from cablectl.model.rotation import RotationPhase


class Presence(StrEnum):
    """Whether the kernel has a module: loaded or built in, loadable, or missing."""

    LOADED = "loaded"
    LOADABLE = "loadable"
    MISSING = "missing"


class Run(Struct, frozen=True):
    """A connect or teardown that left a lock or a journal in /run/cablectl."""

    cable: str
    pid: int | None = None  # None if unknown
    at_work: bool = False  # it still holds the lock
    cut_off: str = ""  # which command was interrupted at which step; empty if none was


class HostEvidence(Struct, frozen=True, kw_only=True):
    """The state of a host that concerns every cable."""

    root: bool
    kernel: str  # its release, as `uname -r` prints it
    time: float  # seconds since 1970
    synchronised: bool | None  # whether NTP has set the clock; None if the kernel doesn't say
    libreswan: str  # the output of `ipsec --version`; empty if Libreswan isn't installed
    daemons: tuple[Process, ...]  # running daemons that speak IKE
    pluto_error: str  # why pluto doesn't answer; empty if it does
    listening: tuple[str, ...]  # pluto's sockets, as ADDRESS:PORT
    cables: tuple[str, ...]  # the names of the cables that pluto has loaded
    own_cables: frozenset[str]  # the ids of the cables that cablectl created
    sockets: tuple[Socket, ...]  # UDP
    modules: dict[str, Presence]
    links: dict[str, Link]
    fips: bool
    runs: tuple[Run, ...]
    firewall: tuple[Chain, ...] | None  # None if it can't be read


class Route(Struct, frozen=True):
    """The route to the peer, or the error that `ip route get` prints."""

    device: str = ""
    mtu: int = 0  # bytes
    error: str = ""


class Reply(Struct, frozen=True):
    """The result of an IKE_SA_INIT to one port; all fields are empty if no answer came back."""

    answer: str = ""  # as `ike.answer` returns it
    refused: bool = False
    error: str = ""  # of sending


class KeyEvidence(Struct, frozen=True):
    """The pre-shared key: its place, and what is wrong with it."""

    place: str
    problems: tuple[tuple[str, str], ...] = ()  # a problem and its fix
    warnings: tuple[str, ...] = ()  # each ends in ": " and its fix


class Pings(Struct, frozen=True):
    """Pings of the peer's VTEP, and how many bytes the cable's SAs carried meanwhile."""

    sent: int
    answered: int
    bytes_out: int
    bytes_in: int
    error: str = ""  # of sending

    @property
    def may_have_answers(self) -> bool:
        """Whether enough came in for answers: the peer's kernel sends multicast as well."""
        return 2 * self.bytes_in > self.bytes_out


class CableEvidence(Struct, frozen=True, kw_only=True):
    """The state of a host, and of the path to the peer, that concerns one cable of a file."""

    files: str  # the names of the files as the user gave them
    local_device: str  # the device that has the local address; empty if none has it
    instead: str = ""  # the address that this host has towards the peer, if it lacks that address
    route: Route
    subnet_devices: dict[str, str]  # the device that leads to each local subnet
    rp_filters: dict[str, int]  # the effective rp_filter of each device that matters
    forwarding: dict[str, bool]  # whether each device that matters forwards
    service_port: int | None  # the port that /etc/services gives for vxlan
    replies: dict[int, Reply]  # by the peer's port
    key: KeyEvidence | None
    log: dict[str, str]  # pluto's log lines about each connection
    facts: Facts | None
    facts_error: str  # why `facts` is None
    offload: OffloadReport | None
    received: int | None  # packets that the overlay's device has received
    pings: Pings | None
    rotation: RotationPhase = RotationPhase.NONE
