"""The ways to the peers by this host's routes."""

from collections.abc import Iterable
from functools import cache
from ipaddress import ip_address
from typing import NamedTuple

from cablectl.errors import HostNotReadyError
from cablectl.host import probe
from cablectl.model.wishes import AnyAddress


class Way(NamedTuple):
    """The path MTU and the device of the route to a peer."""

    mtu: int  # bytes
    device: str


def ways(local: AnyAddress, remotes: Iterable[AnyAddress]) -> dict[AnyAddress, Way]:
    """Return the ways by peer, without unreachable peers; none if this host lacks the address."""
    commands = "".join(f"route get {remote} from {local}\n" for remote in remotes)
    try:
        # Each answer is a line; an unreachable peer has none.
        output = probe.run("ip", "-j", "-force", "-batch", "-", given=commands).stdout
    except HostNotReadyError:
        return {}
    mtu_of = cache(_mtu)
    found = {}
    for line in output.splitlines():
        for route in probe.decoded(line):
            limits = [metric["mtu"] for metric in route.get("metrics", ()) if "mtu" in metric]
            device = route["dev"]
            found[ip_address(route["dst"])] = Way(min([*limits, *mtu_of(device)]), device)
    return found


def _mtu(device: str) -> list[int]:
    return [link["mtu"] for link in probe.json("ip", "-j", "link", "show", "dev", device)]
