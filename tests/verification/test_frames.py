"""What a capture holds, told from packets that are built here."""

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cablectl.linux.xfrm import SecurityAssociation
from cablectl.verification import frames
from cablectl.verification.frames import Tally
from tests.support.documents import SHAPES, shaped

SPI, OTHER_SPI = 0x11223344, 0x55667788
ESP = SPI.to_bytes(4) + bytes(20)
HERE, THERE = "172.18.0.8", "172.18.0.7"
HERE6, THERE6 = "2001:db8::8", "2001:db8::7"
OUT = SecurityAssociation(HERE, THERE, "esp", "0x11223344", 1)
IN = SecurityAssociation(THERE, HERE, "esp", "0x55667788", 1)


def ip(source: str, target: str, protocol: int, payload: bytes, *, later: bool = False) -> bytes:
    """Return an IP packet: of IPv6, with a fragment header if it is a later one."""
    ends = ip_address(source).packed + ip_address(target).packed
    if ":" not in source:
        offset = 100 if later else 0
        size = 20 + len(payload)
        return struct.pack("!BxHxxHBBxx", 0x45, size, offset, 64, protocol) + ends + payload
    if later:
        payload = struct.pack("!BxHI", protocol, 100 << 3, 1) + payload
        protocol = 44
    return struct.pack("!IHBB", 6 << 28, len(payload), protocol, 64) + ends + payload


def udp(target: int, data: bytes, source: int = 50000) -> bytes:
    return struct.pack("!HHHxx", source, target, 8 + len(data)) + data


def vni(number: int) -> bytes:
    return struct.pack("!II", 0x08000000, number << 8) + b"inner"


def gre(key: int) -> bytes:
    return struct.pack("!HHI", 0x2000, 0x0800, key) + b"inner"


def echo(kind: int = 8) -> bytes:
    return bytes([kind]) + bytes(7)


def tally(
    shape: str,
    *captured: tuple[bool, int, bytes],
    sas: tuple[SecurityAssociation, ...] = (OUT, IN),
) -> Tally:
    count = frames.Count(shaped(shape))
    for outgoing, stamp, data in captured:
        count.add(outgoing, stamp, data)
    return count.tally(sas)


CLEAR = [
    ("transport vxlan v4", ip(HERE, THERE, 17, udp(4789, vni(1000))), True),
    ("transport vxlan v4", ip("192.0.2.1", HERE, 17, udp(4789, vni(1000))), True),  # an outsider's
    ("transport vxlan v4", ip(HERE, THERE, 17, udp(4789, vni(1001))), False),
    ("transport vxlan v4", ip(HERE, THERE, 17, udp(4790, vni(1000))), False),
    ("transport vxlan v4", ip(HERE, THERE, 17, udp(4500, ESP, 4500)), False),
    ("transport vxlan v4", ip(HERE, THERE, 17, udp(4789, vni(1000)), later=True), False),
    ("transport vxlan v6", ip(HERE6, THERE6, 17, udp(4789, vni(1000))), True),
    ("tunnel vxlan v4", ip("244.18.0.8", "244.18.0.7", 17, udp(4789, vni(1000))), True),
    ("tunnel ipip v4", ip("244.18.0.8", "244.18.0.7", 4, bytes(20)), True),
    ("tunnel ipip v4", ip(HERE, THERE, 4, bytes(20)), False),
    ("tunnel vxlan v4", ip(HERE, THERE, 17, udp(4500, ESP, 4500)), False),
    ("transport vxlan v6", ip(HERE6, THERE6, 17, udp(4789, vni(1000)), later=True), False),
    ("none vxlan v4", ip(HERE, THERE, 17, udp(4789, vni(1000))), True),
    ("transport geneve v4", ip(HERE, THERE, 17, udp(6081, vni(1000))), True),
    ("transport geneve v4", ip(HERE, THERE, 17, udp(4789, vni(1000))), False),
    ("transport gre v4", ip(HERE, THERE, 47, gre(1000)), True),
    ("transport gre v6", ip(HERE6, THERE6, 47, gre(1000)), True),
    ("transport gre v4", ip(HERE, THERE, 47, gre(1001)), False),
    ("transport gre v4", ip(HERE, THERE, 47, struct.pack("!HHI", 0, 0x0800, 1000)), False),
    ("transport gre v4", ip(HERE, THERE, 50, ESP), False),
    ("tunnel v4", ip("10.44.0.1", "10.45.0.1", 1, echo()), True),
    ("tunnel v4", ip("10.45.0.1", "100.44.9.9", 6, b"tcp"), True),
    ("tunnel v4", ip("10.45.0.1", "100.44.9.9", 6, b"tcp", later=True), True),
    ("tunnel v4", ip("10.44.0.1", "192.0.2.1", 1, echo()), False),
    ("tunnel v4", ip(HERE, THERE, 17, udp(4500, ESP, 4500)), False),
    ("tunnel v6", ip("2001:db8:44::1", "2001:db8:45::1", 58, echo(128)), True),
    # Between gateways inside their own subnets, only IKE and ESP are no clear text.
    ("tunnel v4 inside", ip("10.44.0.8", "10.45.0.7", 17, udp(4500, ESP, 4500)), False),
    ("tunnel v4 inside", ip("10.44.0.8", "10.45.0.7", 17, udp(500, b"ike", 500)), False),
    ("tunnel v4 inside", ip("10.44.0.8", "10.45.0.7", 50, ESP), False),
    ("tunnel v4 inside", ip("10.44.0.8", "10.45.0.7", 17, udp(53, b"query")), True),
    ("tunnel v4 inside", ip("10.44.0.9", "10.45.0.7", 17, udp(4500, ESP, 4500)), True),
    ("transport none v4", ip(HERE, THERE, 1, echo()), True),
    ("transport none v4", ip(THERE, HERE, 6, b"tcp"), True),
    ("transport none v4", ip(HERE, THERE, 17, udp(53, b"query")), True),
    ("transport none v4", ip(HERE, THERE, 17, udp(4500, ESP, 4500)), False),
    ("transport none v4", ip(HERE, THERE, 17, udp(500, b"ike", 500)), False),
    ("transport none v4", ip(HERE, THERE, 50, ESP), False),
    ("transport none v4", ip(HERE, "192.0.2.1", 1, echo()), False),
    ("transport none v6", ip(HERE6, THERE6, 58, echo(128)), True),
    ("transport none v6", ip(HERE6, THERE6, 58, echo(135)), False),  # a neighbour's solicitation
]


@pytest.mark.parametrize(("shape", "data", "clear"), CLEAR)
def test_what_is_clear_text_of_a_cable(shape: str, data: bytes, clear: bool) -> None:
    packet = frames.parse(data)
    assert packet
    is_clear = frames.clear_text(shaped(shape))
    assert (is_clear(packet, True) or is_clear(packet, False)) == clear


def test_what_the_clusters_own_hosts_send_on_the_same_wire_is_no_clear_text_of_the_cable() -> None:
    is_clear = frames.clear_text(shaped("tunnel v4"))
    there = frames.parse(ip("10.44.0.1", "10.45.0.1", 1, echo()))
    back = frames.parse(ip("10.45.0.1", "10.44.0.1", 1, echo(0)))
    assert there
    assert back
    assert (is_clear(there, True), is_clear(back, False)) == (True, True)
    assert (is_clear(there, False), is_clear(back, True)) == (False, False)


def test_headers_of_ipv6_are_stepped_over() -> None:
    hop = b"\x2c\x01" + bytes(14)  # 16 bytes, then a fragment's header
    first = b"\x3c\0" + struct.pack("!HI", 1, 7)  # more to come, then destination options
    options = b"\x11\0" + bytes(6)
    packet = frames.parse(ip(HERE6, THERE6, 0, hop + first + options + udp(4789, vni(1000))))
    assert packet
    assert (packet.protocol, packet.payload[:4]) == (17, struct.pack("!HH", 50000, 4789))


@pytest.mark.parametrize(
    ("outgoing", "data", "counted"),
    [
        (True, ip(HERE, THERE, 50, ESP), Tally(all=1, esp_out=1)),
        (True, ip(HERE, THERE, 17, udp(4500, ESP, 4500)), Tally(all=1, esp_out=1)),
        (False, ip(THERE, HERE, 50, OTHER_SPI.to_bytes(4)), Tally(all=1, esp_in=1)),
        (True, ip(HERE, THERE, 50, OTHER_SPI.to_bytes(4)), Tally(all=1)),  # not to that host
        (True, ip(HERE, THERE, 50, (SPI + 1).to_bytes(4)), Tally(all=1)),
        (True, ip(HERE, THERE, 17, udp(4500, bytes(4) + ESP, 4500)), Tally(all=1)),  # IKE
        (True, ip(HERE, THERE, 17, udp(4500, b"\xff", 4500)), Tally(all=1)),  # a keepalive
        (True, ip(HERE, THERE, 17, udp(4789, vni(1000))), Tally(all=1, clear_out=1)),
        (False, ip(THERE, HERE, 17, udp(4789, vni(1000))), Tally(all=1, clear_in=1)),
        (True, b"\x00\x01\x08\x00arp", Tally(all=1)),
    ],
)
def test_each_is_counted_once(outgoing: bool, data: bytes, counted: Tally) -> None:
    assert tally("transport vxlan v4", (outgoing, 1, data)) == counted


def test_esp_is_told_over_ipv6() -> None:
    sa = SecurityAssociation(HERE6, THERE6, "esp", "0x11223344", 1)
    data = ip(HERE6, THERE6, 50, ESP)
    assert tally("transport gre v6", (True, 1, data), sas=(sa,)).esp_out == 1


def test_in_tunnel_mode_what_was_decrypted_was_no_clear_text() -> None:
    """The kernel shows it a second time, with the time of its ESP."""
    esp = ip(THERE, HERE, 17, udp(4500, OTHER_SPI.to_bytes(4) + bytes(90), 4500))
    inner = ip("10.45.0.1", "10.44.0.1", 1, echo(0))
    seen = tally(
        "tunnel v4",
        (False, 1000, esp),
        (False, 1000, inner),
        (False, 2000, inner),  # the same again, but no ESP came at that time
        (True, 1000, ip("10.44.0.1", "10.45.0.1", 1, echo())),  # never excused
    )
    assert seen == Tally(all=4, esp_in=1, clear_in=1, clear_out=1)


@given(st.binary(max_size=90), st.sampled_from(SHAPES))
def test_nothing_is_too_strange(data: bytes, shape: str) -> None:
    for begin in (b"", b"\x45", b"\x60"):
        tally(shape, (True, 1, begin + data))


def test_esp_of_another_sa_excuses_nothing() -> None:
    """An outsider may send ESP with an SPI of their own, and clear text at the same time."""
    esp = ip(THERE, HERE, 17, udp(4500, (OTHER_SPI + 1).to_bytes(4) + bytes(90), 4500))
    inner = ip("10.45.0.1", "10.44.0.1", 1, echo(0))
    assert tally("tunnel v4", (False, 1, esp), (False, 1, inner)) == Tally(all=2, clear_in=1)


def test_memory_is_bounded_and_what_has_no_room_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_SAS", 10)
    monkeypatch.setattr(frames, "MAX_RECENT", 10)
    count = frames.Count(shaped("tunnel v4"))
    count.add(False, 0, ip(THERE, HERE, 50, OTHER_SPI.to_bytes(4)))
    for number in range(1, 1001):
        count.add(False, number, ip(THERE, HERE, 50, number.to_bytes(4)))
        count.add(False, number, ip("192.0.2.1", HERE, 17, udp(9, bytes(50))))
        count.add(False, 0, ip(THERE, HERE, 50, OTHER_SPI.to_bytes(4)))
    assert count.overflow == 1000 - 9
    assert count.tally((OUT, IN)) == Tally(all=3001, esp_in=1001)
    assert (len(count._esp), len(count._recent)) == (10, 10)
