"""What a cable is now, as a value: its JSON and the schema of that are these very types.

A cable is up if every connection has a Child SA, in pluto and in the kernel, and nothing of what
connect made is missing; anything less is told with its reason.
"""

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct

from cablectl.facts.expiry import Role, Urgency
from cablectl.libreswan.pluto import Ike
from cablectl.model.rotation import RotationPhase
from cablectl.model.wishes import Mode, OverlayKind

Spi = Annotated[str, Meta(pattern="^(0x[0-9a-f]{8})?$", description="empty if pluto didn't tell")]
Count = Annotated[int, Meta(ge=0)]
Seconds = Annotated[int, Meta(ge=0, description="in seconds")]
Time = Annotated[float, Meta(ge=0, description="in seconds")]
Rate = Annotated[
    float | None, Meta(description="bytes a second since the last look; null at the first")
]


class Verdict(StrEnum):
    """Up; up with something missing; no Child SA, but pluto negotiates; no Child SA; not ours."""

    UP = "up"
    DEGRADED = "degraded"
    CONNECTING = "connecting"
    DOWN = "down"
    FOREIGN = "foreign"


class ChildSaState(Struct, frozen=True, kw_only=True):
    """A pair of SAs, in and out: what they carried, since when, and when others replace them."""

    spi_in: Spi
    spi_out: Spi
    age: Seconds
    rekey_in: Seconds | None
    bytes_in: Count
    bytes_out: Count
    rate_in: Rate
    rate_out: Rate


class ConnectionState(Struct, frozen=True, kw_only=True):
    """A connection: what it protects; whether pluto has it, and it is routed, and up."""

    name: str
    protects: str
    loaded: bool
    routed: bool
    up: bool
    child_sas: tuple[ChildSaState, ...]


class FdbEntry(Struct, frozen=True):
    """To which gateway a device sends the frames for an address."""

    mac: str
    gateway: str


class OverlayState(Struct, frozen=True, kw_only=True):
    """The overlay's device, whose MTU is null if it is missing, and its addresses and routes.

    MTUs are in bytes; `largest_mtu` is what path and SAs carry.
    """

    kind: OverlayKind
    device: str
    up: bool
    mtu: Count | None
    largest_mtu: Count | None
    vtep: str
    peer_vtep: str
    fdb: tuple[FdbEntry, ...]
    routes: tuple[str, ...]


class GuardState(Struct, frozen=True, kw_only=True):
    """The guard's table: whether it is whole, and how many packets it dropped."""

    table: str
    whole: bool
    dropped_in: Count
    dropped_out: Count


class CertificateState(Struct, frozen=True, kw_only=True):
    """When a certificate ends, in seconds since 1970, and how many whole days are left.

    `urgency` is `soon` from 30 days and `urgent` from 7 days before its end.
    """

    role: Role
    subject: str
    not_after: int
    days_left: int
    urgency: Urgency


class Health(StrEnum):
    """What echoes tell: nothing yet; they are answered; the peer answers none; none comes back."""

    UNKNOWN = "unknown"
    ANSWERING = "answering"
    UNANSWERING = "unanswering"
    SILENT = "silent"


class Dead(StrEnum):
    """Where echoes are lost: before this host's SAs, on the way to the peer, or from the peer."""

    HERE = "here"
    OUT = "out"
    IN = "in"


class HealthState(Struct, frozen=True, kw_only=True):
    """What the last echoes through a cable found; what isn't known is null.

    `silent_for` is how long no echo has come back, if it is too long, and `dead` says where they
    are lost. `sent` and `answered` count since the cable came up, or since the watch was started.
    `loss` is the lost part of the last `window` echoes, whose RTTs follow; `jitter` is that of
    RFC 3550, section 6.4.1.
    """

    health: Health
    dead: Dead | None
    silent_for: Seconds | None
    source: str
    target: str
    interval: Seconds
    sent: Count
    answered: Count
    window: Count
    loss: Annotated[float, Meta(ge=0, le=1, description="a fraction")] | None
    rtt_last: Time | None
    rtt_mean: Time | None
    jitter: Time | None


class RepairState(Struct, frozen=True, kw_only=True):
    """What the watch has repaired since it was started.

    `counts` has the number of repairs by kind, also a kind with 0, so that a first repair is seen
    as an increase. `last` is the time of the last repair in seconds since 1970; null without one.
    """

    counts: dict[str, Count]
    last: float | None


class CableState(Struct, frozen=True, kw_only=True):
    """A cable, called what the names of its connections share; what isn't known is null."""

    cable: str
    verdict: Verdict
    reasons: tuple[str, ...]
    peer: str | None
    mode: Mode | None
    ike: Ike
    connections: tuple[ConnectionState, ...]
    overlay: OverlayState | None
    guard: GuardState | None
    offload: str
    certificates: tuple[CertificateState, ...]
    rotation: RotationPhase | None = None  # how far the rotation of the key is; null without one
    health: HealthState | None = None  # null if nobody sends echoes
    repairs: RepairState | None = None  # null if no watch has noted any


class StatusReport(Struct, frozen=True, kw_only=True):
    """The cables of this host, or that of a file, at a time, in seconds since 1970.

    `xfrm_errors` has the counters of /proc/net/xfrm_stat by name, for the whole host. It is null if
    the kernel doesn't count errors.
    """

    time: float
    cables: tuple[CableState, ...]
    xfrm_errors: dict[str, Count] | None = None

    @property
    def up(self) -> bool:
        """Whether there is a cable, and none that isn't up."""
        return bool(self.cables) and all(cable.verdict is Verdict.UP for cable in self.cables)
