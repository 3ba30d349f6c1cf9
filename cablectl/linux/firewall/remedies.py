"""The commands that let a cable's packets through, in the words of what manages the filter.

They change the filter as it runs. firewalld and ufw also keep them for the next start.
"""

import re
import shlex
from collections.abc import Iterable, Iterator
from enum import StrEnum, auto
from typing import assert_never

from cablectl.linux.firewall.filters import Chain, Packet, may_hold
from cablectl.linux.firewall.traffic import INWARD, Sample
from cablectl.model.wishes import AnyNetwork, IpProtocol

POLICY = "cablectl"  # the name of firewalld's policies and ipset for cables
_UFW_PROTOCOLS = ("udp", "tcp", "esp", "gre", "ipv6")  # of those that ufw(8) lists
_SUDO = "sudo "


class Manager(StrEnum):
    """The program whose commands change a chain."""

    NFT = auto()
    IPTABLES = auto()
    FIREWALLD = auto()
    UFW = auto()


def manager(chains: Iterable[Chain], chain: Chain) -> Manager:
    """Return which program manages a chain, as the names of its table and chains show."""
    names = {other.name for other in chains if other.table == chain.table}
    if chain.table.endswith(" firewalld") or any(name.endswith("_ZONES") for name in names):
        return Manager.FIREWALLD
    if chain.table.startswith("table "):
        return Manager.NFT
    ufw = any(name.startswith(("ufw-", "ufw6-")) for name in names)
    return Manager.UFW if ufw else Manager.IPTABLES


def acceptance(chains: tuple[Chain, ...], chain: Chain, samples: Iterable[Sample]) -> str:
    """Return the commands after which a base chain accepts these packets."""
    match manager(chains, chain):
        case Manager.FIREWALLD:
            return _joined(_by_firewalld(chains, samples))
        case Manager.UFW:
            return _joined(_by_ufw(chain, sample) for sample in samples)
        case Manager.IPTABLES:
            return _joined(_by_iptables(chain, sample) for sample in samples)
        case Manager.NFT:
            return _joined(_by_nft(chain, sample) for sample in samples)
        case other:
            assert_never(other)


def exemption(chains: tuple[Chain, ...], chain: Chain, samples: Iterable[Sample]) -> str:
    """Return the commands after which a base chain of type nat leaves these packets alone."""
    if chain.table.startswith("table "):
        by_firewalld = manager(chains, chain) is Manager.FIREWALLD
        if by_firewalld and chain.hook == "postrouting":
            return _joined(_masquerade_less(chains, [*samples]))
        return _joined(_by_nft(chain, sample) for sample in samples)
    return _joined(_by_iptables(chain, sample) for sample in samples)


def _joined(commands: Iterable[str]) -> str:
    """Join commands; one that creates an object of firewalld may fail, as the object may exist."""
    line = ""
    for command in dict.fromkeys(commands):
        separator = "; " if "--new-" in line.rpartition(_SUDO)[2] else " && "
        line += f"{separator if line else ''}{_SUDO}{command}"
    return line


def _protocol(packet: Packet) -> str:
    """Return the protocol in a word that every program takes."""
    protocol = str(packet["protocol"])
    return IpProtocol(protocol).word if protocol in list(IpProtocol) else protocol


def _match(sample: Sample, saddr: str, daddr: str) -> list[str]:
    """Return the words that match source and destination, after these options."""
    packet = sample.packet
    pairs = [(saddr, packet.get("saddr")), (daddr, packet.get("daddr"))]
    return [word for option, value in pairs if value for word in (*option.split(), _short(value))]


def _short(network: AnyNetwork) -> str:
    """Return a network, or the address of a network that holds one host alone."""
    return str(network).removesuffix(f"/{network.max_prefixlen}")


def _by_nft(chain: Chain, sample: Sample) -> str:
    packet, family = sample.packet, "ip6" if sample.packet.get("family") == "ipv6" else "ip"
    words = [*chain.table.split()[1:], chain.name]
    words += ["meta", "secpath", "exists"] if packet.get("ipsec") and not sample.forwarded else []
    words += ["rt", "ipsec", "exists"] if packet.get("ipsec_out") and not sample.forwarded else []
    words += _match(sample, f"{family} saddr", f"{family} daddr")
    if not sample.forwarded and "dport" in packet:
        words += ["udp", "dport", str(packet["dport"])]
    elif not sample.forwarded:
        words += ["meta", "l4proto", _protocol(packet)]
    return shlex.join(("nft", "insert", "rule", *words, "accept"))


def _by_iptables(chain: Chain, sample: Sample) -> str:
    program, table = chain.table.split()
    words = [program, *(() if table == "filter" else ("-t", table)), "-I", chain.name]
    return shlex.join((*words, *_iptables_match(sample), "-j", "ACCEPT"))


def _iptables_match(sample: Sample) -> list[str]:
    packet, words = sample.packet, _match(sample, "-s", "-d")
    if not sample.forwarded:
        words += ["-p", _protocol(packet)]
        words += ["--dport", str(packet["dport"])] if "dport" in packet else []
        for field, direction in (("ipsec", "in"), ("ipsec_out", "out")):
            if packet.get(field):
                words += ["-m", "policy", "--dir", direction, "--pol", "ipsec"]
    return words


def _by_ufw(chain: Chain, sample: Sample) -> str:
    packet = sample.packet
    protocol = str(packet["protocol"])
    words = _match(sample, "from", "to") or ["from", "any", "to", "any"]
    if sample.forwarded:
        return shlex.join(("ufw", "route", "prepend", "allow", *words))
    if protocol not in _UFW_PROTOCOLS:
        return _by_iptables(chain, sample)
    direction = () if _enters(sample) else ("out",)
    words += ["port", str(packet["dport"])] if "dport" in packet else []
    return shlex.join(("ufw", "prepend", "allow", *direction, *words, "proto", protocol))


def _enters(sample: Sample) -> bool:
    """Tell whether a packet is for this host itself."""
    return sample.hooks[-1] == INWARD[-1]


def _by_firewalld(chains: tuple[Chain, ...], samples: Iterable[Sample]) -> Iterator[str]:
    """Yield the commands of firewalld: a zone for what arrives, policies for the rest."""
    permanent = "firewall-cmd --permanent"
    policies: dict[str, list[Sample]] = {}
    for sample in samples:
        if _enters(sample):
            zone = _zone(chains, "INPUT_ZONES", sample.packet)
            yield f"{permanent} --zone={zone} {_opening(sample.packet)}"
        else:
            name = POLICY if sample.forwarded else f"{POLICY}-out"
            policies.setdefault(name, []).append(sample)
    for name, of_policy in policies.items():
        if not any(chain.name.endswith(f"policy_{name}") for chain in chains):
            source = "ANY" if name == POLICY else "HOST"
            yield f"{permanent} --new-policy={name}"
            yield f"{permanent} --policy={name} --add-ingress-zone={source}"
            yield f"{permanent} --policy={name} --add-egress-zone=ANY"
        for sample in of_policy:
            yield f"{permanent} --policy={name} --add-rich-rule={shlex.quote(_rich(sample))}"
    yield "firewall-cmd --reload"


def _opening(packet: Packet) -> str:
    """Return the option that opens a zone to packets for this host."""
    if "dport" in packet:
        return f"--add-port={packet['dport']}/{packet['protocol']}"
    return f"--add-protocol={_protocol(packet)}"


def _rich(sample: Sample) -> str:
    """Return a rich rule that accepts packets (firewalld.richlanguage(5))."""
    packet = sample.packet
    words = [f'family="{packet["family"]}"'] if "family" in packet else []
    words += [
        f'{part} address="{_short(packet[field])}"'
        for part, field in (("source", "saddr"), ("destination", "daddr"))
        if field in packet
    ]
    if not sample.forwarded and "dport" in packet:
        words.append(f'port port="{packet["dport"]}" protocol="{packet["protocol"]}"')
    elif not sample.forwarded:
        words.append(f'protocol value="{_protocol(packet)}"')
    return f"rule {' '.join(words)} accept"


def _masquerade_less(chains: tuple[Chain, ...], samples: list[Sample]) -> Iterator[str]:
    """Yield the commands after which a zone masquerades all packets but those of the cable.

    A rich rule negates one address only, so the remote networks of the cable are an ipset.
    """
    packet, permanent = samples[0].packet, "firewall-cmd --permanent"
    family = packet["family"]
    name = POLICY if family == "ipv4" else f"{POLICY}6"
    networks = dict.fromkeys(
        _short(sample.packet["daddr" if sample.outgoing else "saddr"]) for sample in samples
    )
    if not any(f"@{name}" in rule.text for chain in chains for rule in chain.rules):
        option = " --option=family=inet6" if family == "ipv6" else ""
        yield f"{permanent} --new-ipset={name} --type=hash:net{option}"
    for network in networks:
        yield f"{permanent} --ipset={name} --add-entry={network}"
    zone = _zone(chains, "POSTROUTING_ZONES", packet)
    sets = f'source not ipset="{name}" destination not ipset="{name}"'
    rule = shlex.quote(f'rule family="{family}" {sets} masquerade')
    yield f"{permanent} --zone={zone} --remove-masquerade"
    yield f"{permanent} --zone={zone} --add-rich-rule={rule}"
    yield "firewall-cmd --reload"


def _zone(chains: tuple[Chain, ...], dispatcher: str, packet: Packet) -> str:
    """Return the zone to which firewalld's dispatching chain sends a packet."""
    for chain in chains:
        if chain.name.endswith(dispatcher):
            for rule in chain.rules:
                found = re.fullmatch(r"(?:filter_|nat_)?(?:IN|POST)_(.+)", rule.target)
                if found and may_hold(rule, packet):
                    return found[1]
    return "public"
