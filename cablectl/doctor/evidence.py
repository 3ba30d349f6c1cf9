"""What doctor looks at: the state of a host, read once, and what the peer answered."""

from enum import StrEnum

from msgspec import Struct

from cablectl.facts.host_facts import Facts, Link
from cablectl.linux.esp_offload import OffloadReport
from cablectl.linux.firewall.filters import Chain
from cablectl.linux.sockets import Process, Socket


class Presence(StrEnum):
    """Whether the kernel has a module: loaded or built in, to be loaded, or not at all."""

    LOADED = "loaded"
    LOADABLE = "loadable"
    MISSING = "missing"


class Run(Struct, frozen=True):
    """What a connect or teardown left, or has, in /run/cablectl: its lock, and where it was cut."""

    cable: str
    pid: int | None = None
    at_work: bool = False
    cut_off: str = ""


class Host(Struct, frozen=True, kw_only=True):
    """What of a host concerns every cable.

    `time` is in seconds since 1970; `synchronised` is None where the kernel doesn't say;
    `libreswan` is what `ipsec --version` prints, nothing if it isn't installed; `daemons` speak
    IKE; `deaf` says why pluto doesn't answer, `listening` at which ADDRESS:PORT it does; `cables`
    are those that pluto has, `made` the ids of those that cablectl did; `firewall` is None where
    it can't be read.
    """

    root: bool
    kernel: str
    time: float
    synchronised: bool | None
    libreswan: str
    daemons: tuple[Process, ...]
    deaf: str
    listening: tuple[str, ...]
    cables: tuple[str, ...]
    made: frozenset[str]
    sockets: tuple[Socket, ...]
    modules: dict[str, Presence]
    links: dict[str, Link]
    fips: bool
    runs: tuple[Run, ...]
    firewall: tuple[Chain, ...] | None


class Route(Struct, frozen=True):
    """The way to the peer: its device and MTU in bytes, or why there is none."""

    device: str = ""
    mtu: int = 0
    error: str = ""


class Reply(Struct, frozen=True):
    """What came of an IKE_SA_INIT: an answer (`ike.answer`), a refusal, or the error of sending.

    Nothing of these is silence.
    """

    answer: str = ""
    refused: bool = False
    error: str = ""


class Key(Struct, frozen=True):
    """What is to be said of the pre-shared key: where it is, why it can't be used, what to know.

    A problem comes with what to do about it, and a warning ends in that.
    """

    place: str
    problems: tuple[tuple[str, str], ...] = ()
    warnings: tuple[str, ...] = ()


class Pings(Struct, frozen=True):
    """Pings of the peer's VTEP, and how many bytes the cable's SAs carried meanwhile.

    `error` is what the kernel said against sending them.
    """

    sent: int
    answered: int
    bytes_out: int
    bytes_in: int
    error: str = ""


class Ends(Struct, frozen=True, kw_only=True):
    """What of a host, and of the way to the peer, concerns the cable of a file.

    `files` is how the file was named; `held_by` is the device that has the local address, if one
    does; `inner` are the devices that lead to the local subnets; `filters` (rp_filter, as it is in
    force) and `forwards` are those of the devices that matter; `replies` is what came from each of
    the peer's ports; `logged` is what pluto said of each connection; `facts` is None where they
    can't be read, for the reason `unread`; `received` is how many packets the overlay's device got.
    """

    files: str
    held_by: str
    route: Route
    inner: dict[str, str]
    filters: dict[str, int]
    forwards: dict[str, bool]
    service_port: int | None
    replies: dict[int, Reply]
    key: Key | None
    logged: dict[str, str]
    facts: Facts | None
    unread: str
    offload: OffloadReport | None
    received: int | None
    pings: Pings | None
