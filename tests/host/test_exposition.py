"""Metrics served by HTTP, and addresses to listen on."""

import socket
from collections.abc import Iterator
from http.client import HTTPConnection

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.host import exposition
from cablectl.render.metrics import families
from tests.support.alive import report


def free_port(family: socket.AddressFamily, address: str) -> int:
    with socket.socket(family) as found:
        found.bind((address, 0))
        port: int = found.getsockname()[1]
        return port


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_each_request_collects_anew(family: socket.AddressFamily, address: str) -> None:
    port, times = free_port(family, address), iter((100.0, 200.0))
    text = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    exposition.serve(exposition.parse(text), lambda: families(report(time=next(times))))
    for time in (100, 200):
        connection = HTTPConnection(address, port, timeout=10)
        connection.request("GET", "/metrics")
        answer = connection.getresponse()
        told = answer.read().decode()
        connection.close()
        assert answer.status == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=0.0.4")
        found = {
            sample.name: sample.value
            for each in text_string_to_metric_families(told)
            for sample in each.samples
        }
        assert found["cablectl_report_timestamp_seconds"] == time
        own = {name for name in found if not name.startswith("cablectl_")}
        assert "process_resident_memory_bytes" in own
        assert all(name.startswith("process_") for name in own)


def nothing() -> Iterator[Metric]:
    yield from ()


WRONG = (
    *("", "9815", ":9815", "localhost:9815", "127.0.0.1", "127.0.0.1:", "127.0.0.1:0"),
    *("127.0.0.1:65536", "127.0.0.1:x", "127.0.0.1:9815 ", "127.0.0.1:\u0661", "1.2.3:9815"),
    *("::1:9815", "[::1]", "[::1]9815", "[]:9815", "[::g]:9815", "[127.0.0.1]:9815"),
)


@pytest.mark.parametrize("text", WRONG)
def test_what_is_no_address_with_a_port_is_refused(text: str) -> None:
    with pytest.raises(UsageError) as caught:
        exposition.parse(text)
    assert caught.value.message == f"--listen '{text}' is not an address and a port from 1 to 65535"
    assert caught.value.hint == "write it as 127.0.0.1:9815 or [::1]:9815"


@pytest.mark.parametrize("text", ["127.0.0.1:9815", "[::1]:9815", "0.0.0.0:1", "[::]:65535"])
def test_an_address_is_shown_as_it_was_written(text: str) -> None:
    assert str(exposition.parse(text)) == text


def test_a_port_that_is_taken_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(HostNotReadyError) as caught:
            exposition.serve(exposition.parse(f"127.0.0.1:{port}"), nothing)
    assert caught.value.message == f"can't listen on 127.0.0.1:{port}: Address already in use"
    assert f"sport = :{port}" in caught.value.hint


def test_an_address_of_another_host_is_told() -> None:
    with pytest.raises(HostNotReadyError) as caught:
        exposition.serve(exposition.parse("192.0.2.1:9815"), nothing)
    told = "can't listen on 192.0.2.1:9815: Cannot assign requested address"
    assert caught.value.message == told
