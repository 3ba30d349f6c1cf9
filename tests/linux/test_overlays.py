"""What every overlay must have; the tests run for each overlay of the registry."""

import struct
from itertools import product

import pytest

from cablectl.linux import guard
from cablectl.linux.firewall import iptables
from cablectl.linux.nftables import Expression, Rule
from cablectl.linux.overlay.protocol import Packet
from cablectl.linux.overlay.registry import kinds, overlay_of
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, IpProtocol, OverlayWish
from cablectl.verification.frames import clear_text
from tests.support.documents import shaped

SHAPES = [f"transport {kind} {family}" for kind, family in product(OVERLAYS, ("v4", "v6"))]


def wish_of(cable: Cable) -> OverlayWish:
    """Return the cable's overlay; the cable must have an overlay."""
    assert cable.overlay is not None
    return cable.overlay


def payload(wish: OverlayWish) -> bytes:
    """Return what follows the IP header of the overlay's packets, with the wish's VNI or key."""
    identity: int = getattr(wish, "vni", getattr(wish, "key", 0))
    if wish.port_number:
        return struct.pack("!HHHHII", 50000, wish.port_number, 0, 0, 0x08000000, identity << 8)
    return struct.pack("!HHI", 0x2000, 0x0800, identity)


def rules(cable: Cable) -> list[Rule]:
    """Return all rules of the cable's guard."""
    return [rule for chain in guard.table_of(cable).chains for rule in chain.rules]


def is_part(packets: tuple[Expression, ...], rule: Rule) -> bool:
    """Tell whether a rule matches these packets, or some of them."""
    return all(expression in rule.expressions for expression in packets)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_guard_has_a_drop_rule_for_each_direction(shape: str) -> None:
    cable = shaped(shape)
    packets = overlay_of(wish_of(cable)).guard_match(cable)
    dropped = {rule.role for rule in rules(cable) if is_part(packets, rule)}
    assert dropped == {"in", "out"}


@pytest.mark.parametrize("shape", SHAPES)
def test_the_guards_of_two_overlays_match_different_packets(shape: str) -> None:
    cable = shaped(shape)
    wish = wish_of(cable)
    others = [other for other in map(shaped, SHAPES) if wish_of(other).kind != wish.kind]
    packets = overlay_of(wish).guard_match(cable)
    assert others
    assert not any(is_part(packets, rule) for other in others for rule in rules(other))


@pytest.mark.parametrize("shape", SHAPES)
def test_a_clear_packet_is_recognised(shape: str) -> None:
    cable = shaped(shape)
    wish = wish_of(cable)
    number = wish.protocol(cable.local.address.version).number
    clear = clear_text(cable)
    packet = Packet(cable.local.address, cable.remote_host, number, payload(wish))
    assert clear(packet, True)
    assert not clear(packet._replace(protocol=50), True)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_device_and_a_selector_belong_to_one_overlay(shape: str) -> None:
    cable = shaped(shape)
    wish = wish_of(cable)
    overlay = overlay_of(wish)
    kind, info = overlay.link_info(cable)
    assert set(overlay.identity) <= info.keys()
    by_link = [overlay.from_link(wish.device, kind, info) for overlay in kinds()]
    assert [type(found) for found in by_link if found] == [type(wish)]
    protocol = wish.protocol(cable.local.address.version)
    by_selector = [overlay.from_selector(protocol, wish.port_number) for overlay in kinds()]
    assert [type(found) for found in by_selector if found] == [type(wish)]


@pytest.mark.parametrize("kind", kinds())
def test_every_overlay_names_its_kernel_modules(kind: type) -> None:
    modules = kind.modules  # type: ignore[attr-defined]
    assert set(modules) == {4, 6}
    for module in modules.values():
        assert module.option.startswith("CONFIG_")
        assert module.function.endswith("_xmit")


@pytest.mark.parametrize("word", ["4", "ipencap"])
def test_an_iptables_rule_for_ip_in_ip_is_understood(word: str) -> None:
    """/etc/protocols calls protocol 4 ipencap; its `ipip` is another protocol, number 94."""
    saved = f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p {word} -j DROP\nCOMMIT\n"
    (chain,) = iptables.parse(saved, "iptables-save")
    (rule,) = chain.rules
    assert rule.conditions[0].values == (IpProtocol.IPV4.value,)
