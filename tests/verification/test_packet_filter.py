"""What the kernel lets pass: every frame that is counted, and no flood of others.

The kernel runs the program on a datagram between two sockets of Unix, as on a packet of a device.
"""

import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from cablectl.host.socket_filter import attach
from cablectl.model.cable import Cable, Role
from cablectl.model.wishes import AnyNetwork
from cablectl.verification import frames, packet_filter
from cablectl.verification.frames import ENOUGH
from tests.support.documents import SHAPES, shaped

HERE, THERE, OTHER = "172.18.0.8", "172.18.0.7", "192.0.2.1"
HERE6, THERE6, OTHER6 = "2001:db8::8", "2001:db8::7", "2001:db8:ffff::1"
CABLES = {shape: shaped(shape) for shape in SHAPES}


class Filtered:
    """A pair of sockets, the second with a filter."""

    def __init__(self, cable: Cable) -> None:
        self._send, self._receive = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        attach(self._receive, packet_filter.program(cable))
        self._receive.setblocking(False)

    def close(self) -> None:
        self._send.close()
        self._receive.close()

    def passes(self, data: bytes) -> bool:
        self._send.send(data)
        try:
            assert self._receive.recv(4096) == data[:ENOUGH]
        except BlockingIOError:
            return False
        return True


@pytest.fixture(scope="module")
def filters() -> Iterator[dict[str, Filtered]]:
    made = {shape: Filtered(cable) for shape, cable in CABLES.items()}
    yield made
    for each in made.values():
        each.close()


def counted(cable: Cable, data: bytes) -> bool:
    """Tell whether a frame is counted in either direction, if its SPI is one of the cable's.

    ESP comes from the peer, or from anywhere if the peer may have any address.
    """
    packet = frames.parse(data[:ENOUGH])
    ends = {packet.source, packet.destination} if packet else set()
    server = cable.role is Role.SERVER and cable.local.address in ends
    between = server or ends == {cable.local.address, cable.remote_host}
    for outgoing in (False, True):
        count = frames.Count(cable)
        count.add(outgoing, 1, data[:ENOUGH])
        if count.tally(()) != frames.Tally(all=1) or (between and count._esp):
            return True
    return False


ADDRESSES = {
    4: ["172.18.0.8", "172.18.0.7", "10.44.0.1", "10.45.0.9", "100.44.9.9", "203.0.113.8", OTHER],
    6: [HERE6, THERE6, "2001:db8:44::1", "2001:db8:45::9", OTHER6],
}
PROTOCOLS = [1, 4, 6, 17, 17, 17, 41, 44, 47, 50, 50, 58, 0, 43, 60]
PORTS = [9, 500, 4500, 4501, 4789, 6081]
PAYLOADS = [
    *(struct.pack("!II", 0x08000000, vni << 8) + b"inner" for vni in (1000, 1001)),
    struct.pack("!HHI", 0x2000, 0x0800, 1000),
    b"\x11\x22\x33\x44" + bytes(90),
    b"",
]


@st.composite
def packets(draw: st.DrawFn) -> bytes:
    version = draw(st.sampled_from([4, 6]))
    source, target = (ip_address(draw(st.sampled_from(ADDRESSES[version]))).packed for _ in "ab")
    protocol = draw(st.sampled_from(PROTOCOLS))
    payload = draw(st.sampled_from(PAYLOADS))
    inner = draw(st.sampled_from([17, 50, 47, 58]))
    if protocol == 17 or (protocol in (0, 43, 60, 44) and inner == 17):
        ports = (draw(st.sampled_from(PORTS)), draw(st.sampled_from(PORTS)))
        payload = struct.pack("!HHHxx", *ports, 8 + len(payload)) + payload
    later = draw(st.booleans()) and draw(st.booleans())
    if version == 4:
        words = draw(st.integers(0, 2))
        head = struct.pack(
            "!BxHxxHBBxx", 0x45 + words, 20 + len(payload), 100 * later, 64, protocol
        )
        return head + source + target + bytes(4 * words) + payload
    if protocol in (0, 43, 60):
        payload = struct.pack("!BBHI", inner, 0, 0, 0) + payload
    if protocol == 44:
        payload = struct.pack("!BxHI", inner, (100 << 3) * later, 1) + payload
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + source + target + payload


@settings(max_examples=2000, deadline=None)
@given(data=packets(), shape=st.sampled_from(SHAPES))
def test_every_frame_that_is_counted_passes(
    filters: dict[str, Filtered], data: bytes, shape: str
) -> None:
    assert filters[shape].passes(data) or not counted(CABLES[shape], data)


@settings(max_examples=300, deadline=None)
@given(data=st.binary(min_size=1, max_size=200), shape=st.sampled_from(SHAPES))
def test_nothing_is_too_strange(filters: dict[str, Filtered], data: bytes, shape: str) -> None:
    for begin in (b"", b"\x45", b"\x60"):
        assert filters[shape].passes(begin + data) or not counted(CABLES[shape], begin + data)


def udp(source: str, target: str, ports: tuple[int, int]) -> bytes:
    ends = ip_address(source).packed + ip_address(target).packed
    data = struct.pack("!HHHxx", *ports, 108) + bytes(100)
    if ":" in source:
        return struct.pack("!IHBB", 6 << 28, len(data), 17, 64) + ends + data
    return struct.pack("!BxHxxHBBxx", 0x45, 128, 0, 64, 17) + ends + data


@pytest.mark.parametrize("shape", SHAPES)
def test_no_flood_of_others_passes(filters: dict[str, Filtered], shape: str) -> None:
    """Neither from another host, nor between others, nor ARP."""
    local, other = (HERE6, OTHER6) if " v6" in shape else (HERE, OTHER)
    for ports in ((9, 9), (53, 40000), (40000, 443)):
        assert not filters[shape].passes(udp(other, local, ports))
        assert not filters[shape].passes(udp(local, other, ports))
    assert not filters[shape].passes(udp(other, other, (4500, 4500)))
    assert not filters[shape].passes(b"\x00\x01\x08\x00" + bytes(30))
    assert not filters[shape].passes(b"\x45")


@pytest.mark.parametrize(
    ("shape", "networks", "there"),
    [
        ("tunnel v4", [IPv4Network(f"10.44.{i}.0/24") for i in range(100)], "10.45.0.1"),
        ("tunnel v6", [IPv6Network(f"2001:db8:44:{i}::/64") for i in range(100)], "2001:db8:45::1"),
    ],
)
def test_the_kernel_takes_the_program_for_many_subnets(
    shape: str, networks: list[AnyNetwork], there: str
) -> None:
    cable = CABLES[shape]
    large = replace(cable, local=replace(cable.local, subnets=tuple(networks)))
    filtered = Filtered(large)
    sent = [udp(str(networks[i][1]), there, (1, 2)) for i in (0, 50, 99)]
    assert all(counted(large, data) for data in sent)
    assert all(filtered.passes(data) for data in sent)
    filtered.close()
