"""The kernel's own view of IPsec: policies and SAs as `ip xfrm` takes and prints them.

pluto keeps both in order while it lives. A plan looks a policy up here to prove that traffic is
caught before the overlay can send any, and removes what a killed pluto left behind.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from cablectl.linux.mtu import Cipher, carried
from cablectl.model.argv import Argv
from cablectl.model.cable import Connection, End
from cablectl.model.wishes import IpProtocol, Mode

# Compiled at first use: a dry run needs none of them, and each costs it a millisecond.
_PORTS = r"(?: sport (?P<sport>\d+))?(?: dport (?P<dport>\d+))?"
_POLICY = (
    r"(?m)^src (?P<source>\S+) dst (?P<destination>\S+)(?: proto (?P<protocol>\S+))?"
    + _PORTS
    + r"[^\n]*\n\s+dir (?P<direction>\w+)(?P<rest>[^\n]*(?:\n[\t ][^\n]*)*)"
)
_SA = (
    r"src (?P<source>\S+) dst (?P<destination>\S+)\s+proto (?P<protocol>\S+)"
    r" spi (?P<spi>0x\w+)\S* reqid (?P<reqid>\d+)"
)
_CARRIED = r"lifetime current:\s+(?P<bytes>\d+)\(bytes\), (?P<packets>\d+)\(packets\)"
_OFFLOAD = r"crypto offload parameters: dev (?P<device>\S+) dir \S+(?: mode (?P<mode>\w+))?"
_AEAD = r"\taead rfc(?:4106|7539esp)\S+ .* (?P<icv>\d{1,4})\n"
_CBC = r"\tauth-trunc \S+ .* (?P<icv>\d{1,4})\n\tenc cbc\((?:aes|camellia)\) "


# What iproute2 prints: a name of /etc/protocols, or a number where there is no such file.
_PROTOCOLS = {
    **{str(protocol.number): protocol.value for protocol in IpProtocol},
    "ipencap": IpProtocol.IPV4.value,
}


class Policy(Struct, frozen=True):
    """Which packets of one direction need IPsec (RFC 4301, section 4.4.1); None is any port."""

    source: str
    destination: str
    protocol: str | None
    source_port: int | None
    destination_port: int | None
    direction: str


class SecurityAssociation(Struct, frozen=True):
    """An SA (RFC 4301, section 4.1) without its keys; `spi` in hex; `reqid` ties it to policies.

    `offload` is what the NIC `device` does of it: crypto, packet, or nothing at all. `encapsulated`
    says whether its ESP is in UDP; `cipher` is what that costs, None where it isn't known; `bytes`
    and `packets` are what it carried: of transport mode without the IP header, of tunnel mode the
    whole inner packet.
    """

    source: str
    destination: str
    protocol: str
    spi: str
    reqid: int
    offload: str = ""
    device: str = ""
    encapsulated: bool = False
    cipher: Cipher | None = None
    bytes: int = 0
    packets: int = 0


def policies(connection: Connection) -> tuple[Policy, ...]:
    """Return what pluto asks of the kernel for a connection: the out policy, in, and fwd.

    Traffic is forwarded between subnets only, in tunnel mode.
    """

    def one(source: End, target: End, direction: str) -> Policy:
        return Policy(
            source=str(source.network),
            destination=str(target.network),
            protocol=source.protocol,
            source_port=source.port_number,
            destination_port=target.port_number,
            direction=direction,
        )

    directions = ("in", "fwd") if connection.mode is Mode.TUNNEL else ("in",)
    return (
        one(connection.local, connection.remote, "out"),
        *(one(connection.remote, connection.local, each) for each in directions),
    )


def policies_of(connections: Iterable[Connection]) -> frozenset[Policy]:
    """Return the policies of all these connections."""
    return frozenset(policy for each in connections for policy in policies(each))


def sas_of(
    connections: Iterable[Connection],
    installed: dict[Policy, int],
    sas: tuple[SecurityAssociation, ...],
) -> tuple[SecurityAssociation, ...]:
    """Return those SAs that the connections' own policies use."""
    reqids = {installed[policy] for policy in policies_of(connections) & installed.keys()}
    return tuple(sa for sa in sas if sa.reqid and sa.reqid in reqids)


def largest(
    sas: Iterable[SecurityAssociation], path_mtu: int, headers: int, version: int
) -> int | None:
    """Return the largest packet in bytes that all SAs carry; None where none tells its cipher.

    `headers` is what an overlay takes, `version` that of IP outside.
    """
    told = (
        carried(path_mtu, headers, sa.cipher, version=version, encapsulated=sa.encapsulated)
        for sa in sas
        if sa.cipher
    )
    return min(told, default=None)


def get_policy(policy: Policy) -> Argv:
    """Print a policy; fail if the kernel has none with this very selector."""
    return _policy("get", policy)


def delete_policy(policy: Policy) -> Argv:
    """Remove one policy."""
    return _policy("delete", policy)


def delete_sa(sa: SecurityAssociation) -> Argv:
    """Remove one SA."""
    ends = ("src", sa.source, "dst", sa.destination)
    return ("ip", "xfrm", "state", "delete", *ends, "proto", sa.protocol, "spi", sa.spi)


def parse_policies(text: str) -> dict[Policy, int]:
    """Return what `ip xfrm policy` lists, each policy with its reqid; 0 is none.

    Left out are the policies of single sockets and pluto's exception for IPv6 neighbour discovery,
    which 4.10 leaves behind when it stops.
    """
    return {
        Policy(
            source=found["source"],
            destination=found["destination"],
            protocol=_PROTOCOLS.get(found["protocol"], found["protocol"]),
            source_port=_port(found["sport"]),
            destination_port=_port(found["dport"]),
            direction=found["direction"],
        ): int(reqid[1]) if (reqid := re.search(r"reqid (\d+)", found["rest"])) else 0
        for found in re.finditer(_POLICY, text)
        if found["protocol"] != "ipv6-icmp"
    }


def parse_sas(text: str) -> tuple[SecurityAssociation, ...]:
    """Return the SAs that `ip -s xfrm state list nokeys` lists.

    Left out are those with SPI 0: the kernel's reminders that it asked for an SA. They can't be
    deleted and go by themselves after net.core.xfrm_acq_expires seconds.
    """
    blocks = re.split(r"^(?=src )", text, flags=re.MULTILINE)
    found = (
        (block, re.match(_SA, block), re.search(_OFFLOAD, block), re.search(_CARRIED, block))
        for block in blocks
    )
    return tuple(
        SecurityAssociation(
            source=sa["source"],
            destination=sa["destination"],
            protocol=sa["protocol"],
            spi=sa["spi"],
            reqid=int(sa["reqid"]),
            offload=(offload["mode"] or "crypto") if offload else "",
            device=offload["device"] if offload else "",
            encapsulated="\tencap type espinudp " in block,
            cipher=_cipher(block),
            bytes=int(carried["bytes"]) if carried else 0,
            packets=int(carried["packets"]) if carried else 0,
        )
        for block, sa, offload, carried in found
        if sa and int(sa["spi"], 16)
    )


def _cipher(block: str) -> Cipher | None:
    if found := re.search(_AEAD, block):
        return Cipher(iv=8, icv=int(found["icv"]) // 8, block=4)
    if found := re.search(_CBC, block):
        return Cipher(iv=16, icv=int(found["icv"]) // 8, block=16)
    return None


def _word(protocol: str) -> str:
    known = IpProtocol.named(protocol)
    return known.word if known else protocol


def _port(text: str | None) -> int | None:
    return int(text) if text else None


def _policy(verb: str, policy: Policy) -> Argv:
    ports = (("sport", policy.source_port), ("dport", policy.destination_port))
    return (
        *("ip", "xfrm", "policy", verb, "src", policy.source, "dst", policy.destination),
        *(("proto", _word(policy.protocol)) if policy.protocol else ()),
        *(word for name, port in ports if port is not None for word in (name, str(port))),
        *("dir", policy.direction),
    )
