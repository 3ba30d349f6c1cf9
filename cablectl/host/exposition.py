"""Serves metrics by HTTP to Prometheus, at one address of this host."""

import re
from collections.abc import Callable, Iterable
from ipaddress import AddressValueError, IPv4Address, IPv6Address

from msgspec import Struct
from prometheus_client import CollectorRegistry, ProcessCollector, start_http_server
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from cablectl.errors import HostNotReadyError, UsageError

_LISTEN = r"(?:\[(?P<v6>[^\]]+)\]|(?P<v4>[\d.]+)):(?P<port>\d{1,5})"


class Listen(Struct, frozen=True):
    """Where to listen: an address of this host, and a TCP port."""

    address: IPv4Address | IPv6Address
    port: int

    def __str__(self) -> str:
        """Return the two as in a URL: 127.0.0.1:9815, [::1]:9815."""
        host = f"[{self.address}]" if self.address.version == 6 else self.address
        return f"{host}:{self.port}"


class _Collector(Collector):
    """Families that a function makes anew for each request."""

    def __init__(self, collect: Callable[[], Iterable[Metric]]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def parse(text: str) -> Listen:
    """Return ADDRESS:PORT as a value, an IPv6 address in brackets; UsageError for anything else.

    A port without an address is refused, so that nobody listens on all addresses by mistake.
    """
    match = re.fullmatch(_LISTEN, text, re.ASCII)
    try:
        if match and 1 <= int(match["port"]) <= 65535:
            address = IPv6Address(match["v6"]) if match["v6"] else IPv4Address(match["v4"])
            return Listen(address, int(match["port"]))
    except AddressValueError:
        pass
    raise UsageError(
        f"--listen '{text}' is not an address and a port from 1 to 65535",
        hint="write it as 127.0.0.1:9815 or [::1]:9815",
    )


def serve(listen: Listen, collect: Callable[[], Iterable[Metric]]) -> None:
    """Answer each HTTP request with the families that `collect` returns, and this process's own.

    A thread serves until the program ends. Each request calls `collect` in a thread of its own, so
    `collect` must neither change anything nor fail. HostNotReadyError if the port is taken, or the
    address isn't one of this host. http.server looks up the address's name first, so that a DNS
    server which doesn't answer delays the start.
    """
    registry = CollectorRegistry()
    registry.register(_Collector(collect))
    ProcessCollector(registry=registry)
    try:
        start_http_server(listen.port, str(listen.address), registry)
    except OSError as error:
        raise HostNotReadyError(
            f"can't listen on {listen}: {error.strerror}",
            hint=f"sudo ss -tlnp 'sport = :{listen.port}' shows who has the port; ip address shows"
            " the addresses of this host",
        ) from None
