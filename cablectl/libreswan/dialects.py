"""The whack options of each release of Libreswan, as data: a dialect is one row."""

import re
from collections.abc import Mapping

from msgspec import Struct
from msgspec.structs import replace

from cablectl.errors import UsageError
from cablectl.model.argv import Argv


class Version(Struct, frozen=True, order=True):
    """A release of Libreswan."""

    major: int
    minor: int

    def __str__(self) -> str:
        """Return the version as Libreswan writes it, such as 4.10."""
        return f"{self.major}.{self.minor}"


class Dialect(Struct, frozen=True, kw_only=True):
    """The whack options of a range of releases; an empty option doesn't exist there."""

    since: Version  # the first release of the range
    ipv6: Argv = ()  # for IPv6 hosts, before the first of them
    tunnel: Argv = ("--tunnel",)
    transport: Argv = ("--transport",)
    encapsulate: Argv = ("--encaps", "yes")
    esn: Argv = ()  # empty if the release offers ESN and no ESN by default
    # Without an option, 4.x offloads what the NIC supports and 5.x offloads nothing.
    no_offload: Argv = ()
    offload_if_it_can: Argv = ("--nic-offload", "crypto")
    offload: Argv = ("--nic-offload", "crypto")
    packet_offload: bool = True
    dpd_action: bool = False
    dpd_timeout: bool = False  # whether whack refuses a DPD delay without a timeout
    stack_manager: bool = True
    combines: bool = True  # whether one whack adds, routes and initiates a connection
    auth: str = "--authby"  # how one end authenticates
    ike: str = "--ike"  # the IKE proposals
    replay_window: str = "--replay-window"  # packets
    ike_lifetime: str = "--ikelifetime"  # seconds
    child_lifetime: str = "--ipsec-lifetime"  # seconds
    max_bytes: str = "--ipsec-max-bytes"  # of a Child SA
    rekey_margin: str = "--rekeymargin"  # seconds
    rekey_fuzz: str = "--rekeyfuzz"  # a number in percent
    rekey_fuzz_unit: str = ""
    # What a connection of `ipsec addconn` has unlike one of whack, if no setting says otherwise.
    unlike_whack: Mapping[str, str] = {}
    rereads_authorities: bool = True  # whether --rereadcerts ends pluto's cache of authorities
    ppk_ids: bool = True  # whether a connection names its PPK; else its identities lead to the PPK


_4_8 = Dialect(
    since=Version(4, 8),
    tunnel=(),  # --client implies tunnel mode
    transport=(),
    encapsulate=("--forceencaps",),
    esn=("--esn", "--no-esn"),
    no_offload=("--nic-offload", "no"),
    offload_if_it_can=(),
    offload=("--nic-offload", "yes"),
    packet_offload=False,
    dpd_action=True,
    unlike_whack={"pfs": "no", "esn": "no"},
    rereads_authorities=False,
    ppk_ids=False,
)
_4_7 = replace(_4_8, since=Version(4, 7), child_lifetime="--ipseclifetime", max_bytes="")
_5_0 = Dialect(since=Version(5, 0))
DIALECTS = (
    replace(_4_7, since=Version(4, 0), ipv6=("--ipv6",), dpd_timeout=True),
    _4_7,
    _4_8,
    _5_0,
    replace(
        _5_0,
        since=Version(5, 3),
        stack_manager=False,
        combines=False,
        auth="--auth",
        rekey_fuzz_unit="%",
    ),
)


LATEST = DIALECTS[-1].since

# The first release with ML-KEM in IKE proposals; its NSS must have it as well (source).
ML_KEM_SINCE = Version(5, 4)

# One distributed release of each dialect.
EXAMPLES = (Version(4, 6), Version(4, 7), Version(4, 10), Version(5, 2), Version(5, 4))


def parse_version(text: str) -> Version:
    """Return the release named in `text`, such as `Libreswan 4.10` or `5.2`; UsageError if none."""
    match = re.search(r"(?<![\w.])v?(\d{1,3})\.(\d{1,3})(?:\.\d{1,3})?(?![\d.])", text)
    if not match:
        raise UsageError(
            f"{text.strip()!r} is not a Libreswan version", hint="write a version such as 4.10"
        )
    version = Version(int(match[1]), int(match[2]))
    oldest = DIALECTS[0].since
    if version < oldest:
        raise UsageError(
            f"Libreswan {version} is too old", hint=f"install Libreswan {oldest} or later"
        )
    return version


def dialect(version: Version) -> Dialect:
    """Return the dialect of a release."""
    return next(row for row in reversed(DIALECTS) if row.since <= version)
