"""Policies and SAs, parsed from output of `ip xfrm` that was captured while the cable was up."""

import pytest

from cablectl.linux import xfrm
from cablectl.linux.mtu import AES_GCM, CHACHA20_POLY1305, Cipher
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.model.cable import Cable
from tests.support.captures import blocks
from tests.support.documents import shaped
from tests.support.places import CAPTURES

CAPTURE = (CAPTURES / "libreswan-4.10.txt").read_text()
STATES = CAPTURE.partition("(keys removed)\n")[2].partition("=====")[0]
POLICIES = CAPTURE.partition("$ ip xfrm policy\n")[2].partition("#####")[0]
# A packet matched a trap policy, and the kernel waits for pluto to negotiate an SA.
LARVAL = """\
src 172.18.0.7 dst 172.18.0.8
\tproto esp spi 0x00000000 reqid 0 mode transport
\treplay-window 0
\tsel src 172.18.0.7/32 dst 172.18.0.8/32 proto udp sport 42806 dport 4789 dev eth0
"""
# pluto 4.0 reserved this SPI for a Child SA that never came.
RESERVED = """\
src 172.18.0.8 dst 172.18.0.7
\tproto esp spi 0x571bae3a reqid 16393 mode tunnel
\treplay-window 0
\tsel src 172.18.0.8/32 dst 172.18.0.7/32
"""
OTHER = """\
src 192.0.2.1 dst 192.0.2.2
\tproto esp spi 0x00000100 reqid 1 mode tunnel
\treplay-window 0 flag af-unspec
"""
AES = "\taead rfc4106(gcm(aes)) <<Keys hidden>> 128\n"


def test_the_policies_of_the_cable(cable: Cable) -> None:
    reqids = xfrm.parse_policies(POLICIES)
    assert reqids.keys() == xfrm.policies_of(cable.connections)
    assert set(reqids.values()) == {16389, 16393}
    assert "src 0.0.0.0/0 dst 0.0.0.0/0" in POLICIES  # a socket's policy, which is left out


def test_the_sas_of_the_cable(cable: Cable) -> None:
    sas = xfrm.parse_sas(STATES + OTHER + AES)
    other = SecurityAssociation("192.0.2.1", "192.0.2.2", "esp", "0x00000100", 1, cipher=AES_GCM)
    assert sas[-1] == other
    of_cable = xfrm.sas_of(cable.connections, xfrm.parse_policies(POLICIES), sas)
    assert [sa.spi for sa in of_cable] == ["0xcfb4d3a1", "0x987034d9", "0x7e8cad23", "0x16d7a708"]
    assert of_cable == sas[:-1]


@pytest.mark.parametrize("release", ["5.3.2", "5.4"])
def test_what_the_kernel_has_of_later_releases(cable: Cable, release: str) -> None:
    """With ESN, and on 5.4 with a direction for each SA."""
    (policies,) = blocks(release, "ip xfrm policy")
    (states,) = blocks(release, "ip -s -d xfrm state list nokeys")
    reqids = xfrm.parse_policies(policies)
    assert reqids.keys() == xfrm.policies_of(cable.connections)
    sas = xfrm.sas_of(cable.connections, reqids, xfrm.parse_sas(states))
    assert len(sas) == states.count("proto esp spi") == 4
    assert {(sa.encapsulated, sa.cipher, sa.offload) for sa in sas} == {(True, AES_GCM, "")}
    assert sorted(sa.bytes for sa in sas) == [0, 0, 510, 510]


def test_an_sa_without_keys_is_left_out() -> None:
    assert xfrm.parse_sas(LARVAL + RESERVED) == ()
    assert len(xfrm.parse_sas(LARVAL + RESERVED + AES)) == 1
    assert xfrm.parse_sas("") == ()


def test_a_command_names_one_policy_or_sa(cable: Cable) -> None:
    outgoing, incoming = xfrm.policies(cable.connections[0])
    selector = "src 172.18.0.8/32 dst 172.18.0.7/32 proto udp sport 4789 dir out"
    assert " ".join(xfrm.get_policy(outgoing)) == f"ip xfrm policy get {selector}"
    selector = "src 172.18.0.7/32 dst 172.18.0.8/32 proto udp dport 4789 dir in"
    assert " ".join(xfrm.delete_policy(incoming)) == f"ip xfrm policy delete {selector}"
    (sa,) = xfrm.parse_sas(OTHER + AES)
    assert " ".join(xfrm.delete_sa(sa)) == (
        "ip xfrm state delete src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x00000100"
    )


def test_tunnel_mode_has_a_policy_for_forwarded_packets() -> None:
    cable = shaped("tunnel v6")
    outgoing, incoming, forwarded = xfrm.policies(cable.connections[0])
    assert (outgoing.source, outgoing.destination) == ("2001:db8:44::/48", "2001:db8:45::/48")
    assert (incoming.direction, forwarded.direction) == ("in", "fwd")
    assert incoming.source == forwarded.source == outgoing.destination


def test_a_trap_policy_has_no_reqid() -> None:
    trap = """\
src 10.44.0.0/16 dst 10.45.0.0/16
\tdir out priority 1761505 ptype main
\ttmpl src 0.0.0.0 dst 0.0.0.0
\t\tproto esp reqid 0 mode transport
src ::/0 dst ::/0 proto ipv6-icmp type 135
\tdir out priority 1 ptype main
"""
    assert list(xfrm.parse_policies(trap).values()) == [0]


@pytest.mark.parametrize(
    ("lines", "encapsulated", "cipher"),
    [
        # As `ip -d xfrm state list nokeys` of iproute2 6.1 prints them.
        (
            "\taead rfc4106(gcm(aes)) <<Keys hidden>> 128\n"
            "\tencap type espinudp sport 4500 dport 4500 addr 0.0.0.0\n",
            True,
            AES_GCM,
        ),
        ("\taead rfc7539esp(chacha20,poly1305) <<Keys hidden>> 128\n", False, CHACHA20_POLY1305),
        (
            "\tauth-trunc hmac(sha256) <<Keys hidden>> 128\n\tenc cbc(aes) <<Keys hidden>>\n",
            False,
            Cipher(iv=16, icv=16, block=16),
        ),
        (
            "\tauth-trunc hmac(sha512) <<Keys hidden>> 256\n\tenc cbc(camellia) <<Keys hidden>>\n",
            False,
            Cipher(iv=16, icv=32, block=16),
        ),
        ("\taead rfc4309(ccm(aes)) <<Keys hidden>> 128\n", False, None),
        ("\tauth-trunc hmac(sha1) <<Keys hidden>> 96\n\tenc ecb(cipher_null) \n", False, None),
    ],
)
def test_encapsulation_and_cipher_of_an_sa(
    lines: str, encapsulated: bool, cipher: Cipher | None
) -> None:
    (sa,) = xfrm.parse_sas(OTHER + lines)
    assert (sa.encapsulated, sa.cipher) == (encapsulated, cipher)


def test_encapsulation_and_cipher_of_a_cable() -> None:
    assert {(sa.encapsulated, sa.cipher) for sa in xfrm.parse_sas(STATES)} == {(True, AES_GCM)}


@pytest.mark.parametrize("release", ["6.15.0", "6.1.0"])
def test_the_bytes_and_packets_of_an_sa(release: str) -> None:
    text = (CAPTURES / "xfrm-state.txt").read_text().partition(f"iproute2 {release}\n")[2]
    sas = xfrm.parse_sas(text.partition("=====")[0])
    assert sorted((sa.bytes, sa.packets) for sa in sas) == [(0, 0), (0, 0), (5838, 29), (5838, 29)]
    assert all(sa.encapsulated for sa in sas)
    assert {sa.destination for sa in sas if sa.bytes} == {"172.18.0.7", "172.18.0.8"}


def test_a_listing_without_counters_and_encapsulation() -> None:
    (sa,) = xfrm.parse_sas(OTHER + AES)
    assert (sa.encapsulated, sa.bytes, sa.packets) == (False, 0, 0)


def test_the_kernels_error_counters_have_their_names() -> None:
    text = "XfrmInError             \t0\nXfrmInNoStates          \t17\nXfrmInIptfsError\t2\n"
    assert xfrm.parse_errors(text) == {
        "XfrmInError": 0,
        "XfrmInNoStates": 17,
        "XfrmInIptfsError": 2,
    }
    assert xfrm.parse_errors("") == {}
