"""The keys of all pairs of gateways: made once, in one directory, and copied for one gateway.

Only the directory with all keys is where keys are made. A gateway's own directory gets copies, so
the two gateways of a pair can't get different keys by accident.
"""

from collections.abc import Iterable
from itertools import combinations
from pathlib import Path
from typing import NamedTuple

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.host import keys
from cablectl.model.network import Network
from cablectl.model.psk import PskPair, pair_name
from cablectl.model.wishes import Endpoint


class Counted(NamedTuple):
    """How many keys are new in a directory, and how many were there before."""

    directory: Path
    new: int
    kept: int


def make(network: Network, out: str, ending: str = "") -> Counted:
    """Make the key of every pair of endpoints that has none yet; no key is replaced.

    The names of the files have that ending.
    """
    directory = _directory("--out", out)
    keys.make_directory(directory)
    made = [
        keys.place(directory / f"{pair_name(one.cluster, other.cluster)}{ending}", keys.random())
        for one, other in combinations(network.endpoints, 2)
    ]
    return Counted(directory, made.count(True), made.count(False))


def copy(network: Network, end: Endpoint, source: str, out: str, ending: str = "") -> Counted:
    """Copy the keys of one endpoint to another directory; their names have that ending.

    HostNotReadyError if a key is missing, or if another key is there already; then none is copied.
    """
    origin, directory = _directory("--from", source), _directory("--out", out)
    names = [
        f"{pair_name(end.cluster, peer.cluster)}{ending}"
        for peer in network.endpoints
        if peer is not end
    ]
    found = {name: _key(origin, name) for name in names}
    keys.make_directory(directory)
    _refuse_others(directory, found.items())
    made = [keys.place(directory / name, key) for name, key in found.items()]
    return Counted(directory, made.count(True), made.count(False))


def _directory(option: str, name: str) -> Path:
    if not name:
        raise UsageError(f"{option}: the name of the directory is empty")
    return Path(name).absolute()


def _key(origin: Path, name: str) -> str:
    """Return the key of a pair in the directory with all keys."""
    pair = PskPair(str(origin), name)
    key = keys.read(pair)
    if not Path(pair.path).exists():
        raise HostNotReadyError(
            f"--from: {pair.path} doesn't exist",
            hint="name the directory that `cablectl secret new --pairs FILE --out DIR` filled;"
            " run it again after a change of the file",
        )
    for message, hint in key.problems:
        raise HostNotReadyError(message, hint=hint)
    try:
        return key.raw.decode()
    except UnicodeDecodeError:
        raise HostNotReadyError(
            f"--from: {pair.path} isn't text", hint="copy this file with cp -p"
        ) from None


def _refuse_others(directory: Path, found: Iterable[tuple[str, str]]) -> None:
    """Raise HostNotReadyError if a directory has another key of a pair."""
    for name, key in found:
        there = directory / name
        if there.exists() and keys.read(PskPair(str(directory), name)).raw != key.encode():
            raise HostNotReadyError(
                f"--out: {there} holds another key than the directory of --from",
                hint="find out which one the peer has, and remove the other one",
            )
