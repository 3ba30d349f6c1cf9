"""The kernel's policies and SAs, as `ip xfrm` really printed them while the cable was up."""

from cablectl import xfrm
from cablectl.model import Cable
from cablectl.xfrm import SecurityAssociation
from tests.test_libreswan import CAPTURES

CAPTURE = (CAPTURES / "libreswan-4.10.txt").read_text()
STATES = CAPTURE.partition("(keys removed)\n")[2].partition("=====")[0]
POLICIES = CAPTURE.partition("$ ip xfrm policy\n")[2].partition("#####")[0]
# A packet met a trap policy, and the kernel asked for an SA.
LARVAL = """\
src 172.18.0.7 dst 172.18.0.8
\tproto esp spi 0x00000000 reqid 0 mode transport
\treplay-window 0
\tsel src 172.18.0.7/32 dst 172.18.0.8/32 proto udp sport 42806 dport 4789 dev eth0
"""
OTHER = """\
src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0x00000100 reqid 1 mode tunnel
\treplay-window 0 flag af-unspec
"""


def test_the_policies_of_the_cable(cable: Cable) -> None:
    assert xfrm.parse_policies(POLICIES) == xfrm.policies_of(cable)
    assert "src 0.0.0.0/0 dst 0.0.0.0/0" in POLICIES  # a socket's, left out


def test_the_sas_of_the_cable(cable: Cable) -> None:
    sas = xfrm.parse_sas(STATES + OTHER)
    other = SecurityAssociation("192.0.2.1", "192.0.2.2", "esp", "0x00000100", None, None)
    assert sas[-1] == other
    ours = xfrm.sas_of(cable, sas)
    assert [sa.spi for sa in ours] == ["0xcfb4d3a1", "0x987034d9", "0x7e8cad23", "0x16d7a708"]
    assert ours == sas[:-1]


def test_what_the_kernel_only_asked_for_is_no_sa() -> None:
    assert xfrm.parse_sas(LARVAL) == ()
    assert xfrm.parse_sas("") == ()


def test_commands_name_exactly_one_thing(cable: Cable) -> None:
    out, into = xfrm.policies(cable, cable.connections[0])
    ends = "src 172.18.0.8/32 dst 172.18.0.7/32 proto udp sport 4789 dir out"
    assert " ".join(xfrm.get_policy(out)) == f"ip xfrm policy get {ends}"
    ends = "src 172.18.0.7/32 dst 172.18.0.8/32 proto udp dport 4789 dir in"
    assert " ".join(xfrm.delete_policy(into)) == f"ip xfrm policy delete {ends}"
    (sa,) = xfrm.parse_sas(OTHER)
    assert " ".join(xfrm.delete_sa(sa)) == (
        "ip xfrm state delete src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00000100"
    )
