"""What each cable of a host sees of it."""

from msgspec.structs import replace

from cablectl.facts import partition
from cablectl.facts.host_facts import OverlayFacts, connected
from cablectl.linux.iproute import Rule
from tests.support.examples import load
from tests.support.meshes import CABLES, alone, there, whole
from tests.support.plans import BLANK

RULES = frozenset({Rule(24141, 241)})


class TestShares:
    """What a host has is each cable's own, and what is nobody's everybody sees."""

    def test_of_what_is_there(self) -> None:
        whole_routes = whole(CABLES).overlay.routes
        for cable, its in zip(CABLES, there(CABLES, CABLES), strict=True):
            expected = alone(cable)
            assert its.connections == expected.connections
            assert its.policies.keys() == expected.policies.keys()
            assert its.overlay == replace(expected.overlay, device_routes=whole_routes)

    def test_what_is_nobodys(self) -> None:
        other = load("quickstart", "cluster2")
        foreign = dict.fromkeys(connected(other, BLANK, 1408).policies, 7)
        host = replace(whole(CABLES), policies={**whole(CABLES).policies, **foreign})
        found = partition.of_each(CABLES, host, frozenset())
        assert [foreign.items() <= its.policies.items() for its in found] == [True, True]

    def test_without_a_device(self) -> None:
        host = replace(whole(CABLES), overlay=OverlayFacts(rules=RULES))
        found = partition.of_each(CABLES, host, frozenset())
        assert [its.overlay for its in found] == [OverlayFacts(rules=RULES)] * 2
