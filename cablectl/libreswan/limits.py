"""The limits of SAs: whack's options for them, and what pluto prints of a loaded connection."""

from itertools import pairwise

from msgspec import Struct

from cablectl.errors import UsageError
from cablectl.libreswan.dialects import Version, dialect
from cablectl.libreswan.lines import NUMBER, matches
from cablectl.model.argv import Argv
from cablectl.model.wishes import Ipsec

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_IN_THE_LARGEST_UNIT = {f"1024{unit}": f"1{larger}" for unit, larger in pairwise(_UNITS)}
_LIMITS = (
    rf'{NUMBER}"(?P<name>[^"]+)":   ike_life: (?P<ike_lifetime>\d+)s;'
    r" ipsec_life: (?P<sa_lifetime>\d+)s;"
    # From 4.8 on.
    r"(?: ipsec_max_bytes: (?P<max_bytes>[^;]+); ipsec_max_packets: [^;]+;)?"
    r" replay_window: (?P<replay_window>\d+);"
)


class Limits(Struct, frozen=True, kw_only=True):
    """The limits of a connection's SAs; None for one that the file or pluto doesn't name."""

    ike_lifetime: int | None = None  # seconds
    sa_lifetime: int | None = None  # seconds
    max_bytes: str | None = None  # as pluto prints it, rounded down, such as 976KiB
    replay_window: int | None = None  # packets

    def meet(self, wanted: "Limits") -> bool:
        """Return whether no limit is known to differ from a wanted one."""
        return all(
            getattr(self, name) in (None, limit)
            for name in self.__struct_fields__
            if (limit := getattr(wanted, name)) is not None
        )


def options_for(ipsec: Ipsec, version: Version) -> Argv:
    """Return whack's options for the limits that the file names; UsageError if it has none."""
    row = dialect(version)
    if ipsec.max_bytes is not None and not row.max_bytes:
        raise UsageError(
            f"ipsec.max_bytes: Libreswan {version} has no limit of bytes",
            hint="remove max_bytes, or install Libreswan 4.8 or later",
        )
    options = (
        (row.replay_window, ipsec.replay_window),
        (row.ike_lifetime, ipsec.ike_lifetime),
        (row.child_lifetime, ipsec.sa_lifetime),
        (row.max_bytes, ipsec.max_bytes),
    )
    return tuple(
        word for name, value in options if value is not None for word in (name, str(value))
    )


def limits_of(ipsec: Ipsec) -> Limits:
    """Return the limits that the file names, as pluto prints them."""
    return Limits(
        ike_lifetime=ipsec.ike_lifetime,
        sa_lifetime=ipsec.sa_lifetime,
        max_bytes=None if ipsec.max_bytes is None else _printed(ipsec.max_bytes),
        replay_window=ipsec.replay_window,
    )


def parse_limits(status: str) -> dict[str, Limits]:
    """Return the limits of each loaded connection by name, from `--status`."""
    return {
        line["name"]: Limits(
            ike_lifetime=int(line["ike_lifetime"]),
            sa_lifetime=int(line["sa_lifetime"]),
            max_bytes=_in_the_largest_unit(line["max_bytes"]),
            replay_window=int(line["replay_window"]),
        )
        for line in matches(_LIMITS, status)
    }


def _in_the_largest_unit(printed: str | None) -> str | None:
    """Return what pluto prints as releases before 5.1 do: later ones print 1024KiB for 1MiB."""
    return _IN_THE_LARGEST_UNIT.get(printed, printed) if printed else printed


def _printed(count: int) -> str:
    """Return a number of bytes as pluto prints it: in the largest unit, without a fraction."""
    power = min((count.bit_length() - 1) // 10, len(_UNITS) - 1)
    return f"{count >> 10 * power}{_UNITS[power]}"
