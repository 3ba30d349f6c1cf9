"""The command that lets a packet through, for what manages the rules."""

import pytest

from cablectl.linux.firewall import remedies, traffic
from cablectl.linux.firewall.filters import Chain, Rule
from cablectl.linux.firewall.remedies import Manager
from cablectl.linux.firewall.traffic import Devices, Sample
from tests.support.captures import filters
from tests.support.documents import shaped

DEVICES = Devices("eth0")
NFT = Chain("table inet filter", "input", hook="input", policy="drop")
IPTABLES = Chain("iptables filter", "INPUT", "ipv4", "input", "drop")
LEGACY = Chain("ip6tables-legacy mangle", "FORWARD", "ipv6", "forward", "drop")
UFW = Chain("iptables filter", "ufw-user-input")
ZONES = Chain(
    "table inet firewalld",
    "filter_INPUT_ZONES",
    rules=(Rule("", (), "goto", "filter_IN_home"),),
)
OUTPUT = Chain("table inet firewalld", "filter_OUTPUT", hook="output")


def samples(of: str) -> dict[str, Sample]:
    """Return a cable's packets by a short name."""
    found = {}
    for exchange in traffic.of_cable(shaped(of), DEVICES):
        found[exchange.incoming.name] = exchange.incoming
        found[exchange.outgoing.name] = exchange.outgoing
    return found


V4, V6 = "transport vxlan v4", "tunnel v6"
IKE, BACK = "UDP 4500 from 172.18.0.7", "UDP 4500 to 172.18.0.7"
OVERLAY = "the overlay's UDP 4789 from 172.18.0.7"
FORWARDED = "2001:db8:45::/48 to 2001:db8:44::/48"
BARE = f"{V4} + ipsec: {{encapsulation: no}}"


@pytest.mark.parametrize(
    ("chains", "of", "packet", "expected"),
    [
        (
            [NFT],
            V4,
            IKE,
            "nft insert rule inet filter input ip saddr 172.18.0.7 ip daddr 172.18.0.8"
            " udp dport 4500 accept",
        ),
        (
            [NFT],
            V4,
            OVERLAY,
            "nft insert rule inet filter input meta secpath exists ip saddr"
            " 172.18.0.7 ip daddr 172.18.0.8 udp dport 4789 accept",
        ),
        (
            [NFT],
            V6,
            FORWARDED,
            "nft insert rule inet filter input ip6 saddr 2001:db8:45::/48"
            " ip6 daddr 2001:db8:44::/48 accept",
        ),
        (
            [NFT],
            "transport ipip v4",
            "the overlay's IPIP from 172.18.0.7",
            "nft insert rule inet filter input meta secpath exists ip saddr 172.18.0.7"
            " ip daddr 172.18.0.8 meta l4proto 4 accept",
        ),
        (
            [IPTABLES],
            V4,
            OVERLAY,
            "iptables -I INPUT -s 172.18.0.7 -d 172.18.0.8 -p udp"
            " --dport 4789 -m policy --dir in --pol ipsec -j ACCEPT",
        ),
        (
            [LEGACY],
            V6,
            FORWARDED,
            "ip6tables-legacy -t mangle -I FORWARD -s 2001:db8:45::/48"
            " -d 2001:db8:44::/48 -j ACCEPT",
        ),
        (
            [IPTABLES, UFW],
            V4,
            IKE,
            "ufw prepend allow from 172.18.0.7 to 172.18.0.8 port 4500 proto udp",
        ),
        (
            [IPTABLES, UFW],
            V4,
            BACK,
            "ufw prepend allow out from 172.18.0.8 to 172.18.0.7 port 4500 proto udp",
        ),
        (
            [IPTABLES, UFW],
            V6,
            FORWARDED,
            "ufw route prepend allow from 2001:db8:45::/48 to 2001:db8:44::/48",
        ),
        (
            [IPTABLES, UFW],
            "transport gre v4",
            "the overlay's GRE from 172.18.0.7",
            "ufw prepend allow from 172.18.0.7 to 172.18.0.8 proto gre",
        ),
        (
            [IPTABLES, UFW],
            "transport ipip v4",
            "the overlay's IPIP from 172.18.0.7",
            "iptables -I INPUT -s 172.18.0.7 -d 172.18.0.8 -p 4 -m policy --dir in --pol ipsec"
            " -j ACCEPT",
        ),
        (
            [ZONES],
            V4,
            IKE,
            "firewall-cmd --permanent --zone=home --add-port=4500/udp && firewall-cmd --reload",
        ),
        (
            [OUTPUT],
            V4,
            BACK,
            "firewall-cmd --permanent --new-policy=cablectl-out; firewall-cmd"
            " --permanent --policy=cablectl-out --add-ingress-zone=HOST && firewall-cmd --permanent"
            " --policy=cablectl-out --add-egress-zone=ANY && firewall-cmd --permanent"
            ' --policy=cablectl-out --add-rich-rule=\'rule family="ipv4" source'
            ' address="172.18.0.8" destination address="172.18.0.7" port port="4500"'
            ' protocol="udp" accept\' && firewall-cmd --reload',
        ),
    ],
)
def test_the_command(chains: list[Chain], of: str, packet: str, expected: str) -> None:
    command = remedies.acceptance(tuple(chains), chains[0], [samples(of)[packet]])
    assert command.replace("sudo ", "") == expected


def test_each_command_runs_once_with_sudo() -> None:
    sample = samples(V4)[IKE]
    command = remedies.acceptance((NFT,), NFT, [sample, sample])
    assert command.count("sudo ") == 1


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        ("firewalld-1.3-blocked", Manager.FIREWALLD),
        ("ufw-0.36-blocked", Manager.UFW),
    ],
)
def test_the_manager_of_real_rules(capture: str, expected: Manager) -> None:
    chains = filters(capture)
    assert {remedies.manager(chains, chain) for chain in chains} == {expected}


def test_the_manager_of_firewalld_on_iptables() -> None:
    chain = Chain("iptables filter", "INPUT", "ipv4", "input")
    zones = Chain("iptables filter", "INPUT_ZONES", "ipv4")
    assert remedies.manager((chain, zones), chain) is Manager.FIREWALLD
    assert remedies.manager((chain,), chain) is Manager.IPTABLES
    assert remedies.manager((NFT, zones), NFT) is Manager.NFT
