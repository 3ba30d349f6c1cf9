"""The kernel's policies and SAs: `ip xfrm` commands, and parsers of their output.

pluto maintains both while it runs. A plan reads policies to prove that trap policies are installed
before the overlay can send, and it removes policies and SAs that a killed pluto left behind.
"""

import re
from collections.abc import Iterable

from msgspec import Struct

from cablectl.linux.mtu import Cipher, carried
from cablectl.model.argv import Argv
from cablectl.model.connection import Connection, End
from cablectl.model.wishes import IpProtocol, Mode

# Strings, compiled at first use: a dry run needs no pattern, and each takes a millisecond.
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
_ALGORITHM = r"\n\t(?:aead|enc|auth|auth-trunc|comp) "
_AEAD = r"\taead rfc(?:4106|7539esp)\S+ .* (?P<icv>\d{1,4})\n"
_CBC = r"\tauth-trunc \S+ .* (?P<icv>\d{1,4})\n\tenc cbc\((?:aes|camellia)\) "


# iproute2 and packet filters print a name of /etc/protocols or a number → IANA's keyword.
PROTOCOL_KEYWORDS = {
    **{str(protocol.number): protocol.value for protocol in IpProtocol},
    "ipencap": IpProtocol.IPV4.value,
}


class Policy(Struct, frozen=True):
    """A policy of one direction (RFC 4301, section 4.4.1); a port or protocol of None is any."""

    source: str
    destination: str
    protocol: str | None
    source_port: int | None
    destination_port: int | None
    direction: str


class SecurityAssociation(Struct, frozen=True):
    """An SA (RFC 4301, section 4.1) without keys; `spi` is hexadecimal.

    The policies with the same `reqid` use the SA. `offload` is what the NIC `device` does: crypto,
    packet, or "" for nothing. `encapsulated` says whether ESP is in UDP; `cipher` is None if it
    isn't known. `bytes` and `packets` count what the SA carried: in transport mode without the IP
    header, in tunnel mode the whole inner packet.
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
    """Return the policies that pluto installs for a connection: out, in, and in tunnel mode fwd."""

    def policy(source: End, target: End, direction: str) -> Policy:
        return Policy(
            source=str(source.network),
            destination=str(target.network),
            protocol=source.protocol,
            source_port=source.port_number,
            destination_port=target.port_number,
            direction=direction,
        )

    local, remote = connection.local, connection.remote
    both_ways = (policy(local, remote, "out"), policy(remote, local, "in"))
    if connection.mode is Mode.TUNNEL:
        return (*both_ways, policy(remote, local, "fwd"))
    return both_ways


def policies_of(connections: Iterable[Connection]) -> frozenset[Policy]:
    """Return the policies of all these connections."""
    return frozenset(policy for connection in connections for policy in policies(connection))


def sas_of(
    connections: Iterable[Connection],
    installed: dict[Policy, int],
    sas: tuple[SecurityAssociation, ...],
) -> tuple[SecurityAssociation, ...]:
    """Return the SAs that the connections' policies use; `installed` is reqids by policy."""
    reqids = {installed[policy] for policy in policies_of(connections) & installed.keys()}
    return tuple(sa for sa in sas if sa.reqid and sa.reqid in reqids)


def largest(
    sas: Iterable[SecurityAssociation], path_mtu: int, headers: int, version: int
) -> int | None:
    """Return the largest packet in bytes that all SAs carry; None if no SA's cipher is known.

    `headers` is the length of the overlay's headers in bytes, `version` the outer IP version.
    """
    sizes = (
        carried(path_mtu, headers, sa.cipher, version=version, encapsulated=sa.encapsulated)
        for sa in sas
        if sa.cipher
    )
    return min(sizes, default=None)


def get_policy(policy: Policy) -> Argv:
    """Print a policy; the command fails if the kernel has no policy with exactly this selector."""
    return _policy("get", policy)


def delete_policy(policy: Policy) -> Argv:
    """Remove one policy."""
    return _policy("delete", policy)


def delete_sa(sa: SecurityAssociation) -> Argv:
    """Remove one SA."""
    ends = ("src", sa.source, "dst", sa.destination)
    return ("ip", "xfrm", "state", "delete", *ends, "proto", sa.protocol, "spi", sa.spi)


def parse_policies(text: str) -> dict[Policy, int]:
    """Return the reqid of each policy that `ip xfrm policy` lists; 0 for a policy without reqid.

    Policies of sockets are left out, and so is pluto's exception for IPv6 neighbour discovery,
    which Libreswan 4.10 leaves behind when pluto stops.
    """
    reqids: dict[Policy, int] = {}
    for match in re.finditer(_POLICY, text):
        if match["protocol"] == "ipv6-icmp":
            continue
        policy = Policy(
            source=match["source"],
            destination=match["destination"],
            protocol=PROTOCOL_KEYWORDS.get(match["protocol"], match["protocol"]),
            source_port=_port(match["sport"]),
            destination_port=_port(match["dport"]),
            direction=match["direction"],
        )
        reqid = re.search(r"reqid (\d+)", match["rest"])
        reqids[policy] = int(reqid[1]) if reqid else 0
    return reqids


def parse_sas(text: str) -> tuple[SecurityAssociation, ...]:
    """Return the SAs that `ip -s xfrm state list nokeys` lists.

    Larval SAs, which have no keys yet, are left out. The kernel keeps one with SPI 0 while it waits
    for pluto to negotiate an SA, and one with an SPI that pluto has reserved. They carry nothing,
    and expire after net.core.xfrm_acq_expires seconds.
    """
    blocks = re.split(r"^(?=src )", text, flags=re.MULTILINE)
    return tuple(sa for block in blocks if (sa := _parse_sa(block)))


def parse_errors(text: str) -> dict[str, int]:
    """Return the counters of /proc/net/xfrm_stat by name, such as XfrmInNoStates.

    Newer kernels have more of them (the kernel's Documentation/networking/xfrm_proc.rst).
    """
    return {counter: int(errors) for counter, errors in re.findall(r"(?m)^(\w+)\s+(\d+)$", text)}


def _parse_sa(block: str) -> SecurityAssociation | None:
    """Return the SA of a block of lines; None if the block isn't an SA, or is a larval one."""
    sa = re.match(_SA, block)
    if not sa or not re.search(_ALGORITHM, block):
        return None
    offload, counters = re.search(_OFFLOAD, block), re.search(_CARRIED, block)
    return SecurityAssociation(
        source=sa["source"],
        destination=sa["destination"],
        protocol=sa["protocol"],
        spi=sa["spi"],
        reqid=int(sa["reqid"]),
        offload=(offload["mode"] or "crypto") if offload else "",
        device=offload["device"] if offload else "",
        encapsulated="\tencap type espinudp " in block,
        cipher=_cipher(block),
        bytes=int(counters["bytes"]) if counters else 0,
        packets=int(counters["packets"]) if counters else 0,
    )


def _cipher(block: str) -> Cipher | None:
    """Return an SA's cipher; None if cablectl doesn't know the algorithm's overhead."""
    if match := re.search(_AEAD, block):
        return Cipher(iv=8, icv=int(match["icv"]) // 8, block=4)
    if match := re.search(_CBC, block):
        return Cipher(iv=16, icv=int(match["icv"]) // 8, block=16)
    return None


def _word(protocol: str) -> str:
    """Return a protocol as iproute2 takes it."""
    known = IpProtocol.named(protocol)
    return known.word if known else protocol


def _port(text: str | None) -> int | None:
    return int(text) if text else None


def _policy(verb: str, policy: Policy) -> Argv:
    return (
        *("ip", "xfrm", "policy", verb, "src", policy.source, "dst", policy.destination),
        *(("proto", _word(policy.protocol)) if policy.protocol else ()),
        *(() if policy.source_port is None else ("sport", str(policy.source_port))),
        *(() if policy.destination_port is None else ("dport", str(policy.destination_port))),
        *("dir", policy.direction),
    )
