"""What a watch knows of its cables, by echoes and by repairs, in a file that `status` reads."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from msgspec import DecodeError, Struct, json

from cablectl.host import keys, new_files
from cablectl.linux import guard_file
from cablectl.status.report import HealthState, RepairState

DIRECTORY = Path(guard_file.DIRECTORY)
SUFFIX = ".health"
MAX_AGE = 3  # intervals; whoever wrote an older state has stopped


class HealthFile(Struct, frozen=True):
    """The content of the file: when it was written, in seconds since 1970, and cables by id."""

    time: float
    cables: dict[str, HealthState]
    repairs: dict[str, RepairState] = {}


def write(
    watch: str,
    cables: Mapping[str, HealthState],
    now: float,
    repairs: Mapping[str, RepairState] | None = None,
) -> None:
    """Replace what a watch of that name wrote; `cables` and `repairs` are by the cables' ids.

    `now` is in seconds since 1970. HostNotReadyError if the file can't be written.
    """
    with keys.reported(DIRECTORY):
        DIRECTORY.mkdir(mode=0o700, exist_ok=True)
    new_files.exchange(
        _path(watch), json.encode(HealthFile(now, dict(cables), dict(repairs or {})))
    )


def remove(watch: str) -> None:
    """Remove what a watch wrote, when it ends."""
    _path(watch).unlink(missing_ok=True)
    with suppress(OSError):  # it has other files
        DIRECTORY.rmdir()


def repairs() -> dict[str, RepairState]:
    """Return the repairs of all watches by the cables' ids."""
    return {cable: state for file in _files() for cable, state in file.repairs.items()}


def read(now: float) -> dict[str, HealthState]:
    """Return the states of all watches by the cables' ids; of a cable in two watches, the newest.

    A file that is broken has none, and so has a state that is older than MAX_AGE of its intervals.
    """
    found: dict[str, HealthState] = {}
    for file in sorted(_files(), key=lambda file: file.time):
        for cable, health in file.cables.items():
            if abs(now - file.time) <= MAX_AGE * health.interval:  # the clock may be set back
                found[cable] = health
    return found


def _files() -> list[HealthFile]:
    found = []
    for path in DIRECTORY.glob(f"*{SUFFIX}"):
        with suppress(OSError, DecodeError):
            found.append(json.decode(path.read_bytes(), type=HealthFile))
    return found


def _path(watch: str) -> Path:
    return DIRECTORY / f"{watch}{SUFFIX}"
