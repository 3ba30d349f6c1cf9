"""The ways to the peers, as this host's routes have them."""

from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from cablectl.errors import HostNotReadyError
from cablectl.host import probe
from cablectl.model.wishes import AnyAddress


class Way(NamedTuple):
    """What the route to a peer leads through."""

    mtu: int  # bytes
    device: str


def ways(local: AnyAddress, remotes: Iterable[AnyAddress]) -> dict[AnyAddress, Way]:
    """Return the ways that there are from an address of this host; none if it isn't one."""
    asked = "".join(f"route get {remote} from {local}\n" for remote in remotes)
    try:
        # Each answer is a line; what has none is left out.
        told = probe.run("ip", "-j", "-force", "-batch", "-", given=asked).stdout
    except HostNotReadyError:
        return {}
    mtu_of = cache(_mtu)
    found = {}
    for line in told.splitlines():
        for route in probe.decoded(line):
            limits = [metric["mtu"] for metric in route.get("metrics", ()) if "mtu" in metric]
            device = route["dev"]
            found[ip_address(route["dst"])] = Way(min([*limits, *mtu_of(device)]), device)
    return found


def _mtu(device: str) -> list[int]:
    return [link["mtu"] for link in probe.json("ip", "-j", "link", "show", "dev", device)]
