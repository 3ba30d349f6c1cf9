"""What every overlay must bring along, whatever it is: a forgotten one is found here."""

import struct
from itertools import product

import pytest

from cablectl.linux import guard
from cablectl.linux.firewall import iptables
from cablectl.linux.overlay.protocol import Packet
from cablectl.linux.overlay.registry import kinds, overlay_of
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, IpProtocol, OverlayWish
from cablectl.verification.frames import clear_text
from tests.support.documents import shaped

EVERY = [f"transport {kind} {family}" for kind, family in product(OVERLAYS, ("v4", "v6"))]


def wish_of(cable: Cable) -> OverlayWish:
    """Return the wish of a cable that has one."""
    assert cable.overlay is not None
    return cable.overlay


def payload(wish: OverlayWish) -> bytes:
    """Return what follows the IP header of the overlay's packets, with its VNI or key."""
    identity: int = getattr(wish, "vni", getattr(wish, "key", 0))
    if wish.port_number:
        return struct.pack("!HHHHII", 50000, wish.port_number, 0, 0, 0x08000000, identity << 8)
    return struct.pack("!HHI", 0x2000, 0x0800, identity)


@pytest.mark.parametrize("shape", EVERY)
def test_the_guard_drops_in_each_direction(shape: str) -> None:
    cable = shaped(shape)
    rules = guard.rules_of(cable)
    assert [(rule.chain, rule.drops) for rule in rules] == [("in", "in"), ("out", "out")]
    assert all(rule.match.strip() for rule in rules)
    assert len(guard.made(cable).comments) == 2
    # Rules of two overlays, or of two pairs of gateways without a VNI, never match alike.
    others = [guard.rules_of(shaped(other)) for other in EVERY if other != shape]
    if wish_of(cable).port_number is None:
        matches = {rule.match for rule in rules}
        assert not any(matches & {rule.match for rule in theirs} for theirs in others)


@pytest.mark.parametrize("shape", EVERY)
def test_a_clear_packet_is_known(shape: str) -> None:
    cable = shaped(shape)
    wish = wish_of(cable)
    number = wish.protocol(cable.local.address.version).number
    clear = clear_text(cable)
    ours = Packet(cable.local.address, cable.remote_host, number, payload(wish))
    assert clear(ours, True)
    assert not clear(ours._replace(protocol=50), True)


@pytest.mark.parametrize("shape", EVERY)
def test_a_device_is_known_by_its_traces(shape: str) -> None:
    cable = shaped(shape)
    wish = wish_of(cable)
    overlay = overlay_of(wish)
    kind, info = overlay.link_info(cable)
    assert set(overlay.identity) <= info.keys()
    made = [each.from_link(wish.device, kind, info) for each in kinds()]
    (found,) = (each for each in made if each)
    assert type(found) is type(wish)
    version = cable.local.address.version
    guesses = [each.from_selector(wish.protocol(version), wish.port_number) for each in kinds()]
    assert [type(guess) for guess in guesses if guess] == [type(wish)]


@pytest.mark.parametrize("kind", kinds())
def test_its_kernel_module_can_be_looked_for(kind: type) -> None:
    modules = kind.modules  # type: ignore[attr-defined]
    assert set(modules) == {4, 6}
    for module in modules.values():
        assert module.option.startswith("CONFIG_")
        assert module.function.endswith("_xmit")


@pytest.mark.parametrize("word", ["4", "ipencap"])
def test_a_filter_of_ip_in_ip_is_understood(word: str) -> None:
    """`ipip` is another protocol, 94: /etc/protocols calls number 4 ipencap."""
    saved = f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -p {word} -j DROP\nCOMMIT\n"
    (chain,) = iptables.parse(saved, "iptables-save")
    (rule,) = chain.rules
    assert rule.conditions[0].values == (IpProtocol.IPV4.value,)
