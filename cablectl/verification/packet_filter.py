"""The frames that can matter to a cable, as a program of classic BPF for the kernel.

The program sees a packet from its IP header on. It accepts more than `frames` counts, but nothing
less: it follows neither IPv6's extension headers nor what is in a UDP packet.
"""

from collections.abc import Iterable
from typing import NamedTuple

from cablectl.linux import bpf
from cablectl.model.cable import Cable, Role
from cablectl.model.connection import host_network
from cablectl.model.wishes import AnyNetwork, IpProtocol
from cablectl.verification.frames import ENOUGH, EXTENSIONS, FRAGMENT

_ESP = 50
MAX_NETWORKS = 8  # of an end, each with up to nine instructions; a jump passes at most 255


class Test(NamedTuple):
    """Whether some bytes of a packet have a value, under a mask."""

    offset: int
    size: int
    value: int
    mask: int = -1
    after_header: bool = False


Alternative = list[Test]  # all of them have to hold
Group = list[Alternative]  # one of them has to hold
Clause = list[Group]  # all of them have to hold


def program(cable: Cable) -> bytes:
    """Return the instructions that let the cable's packets pass, in ENOUGH bytes, and no others."""
    clauses = [
        [[[Test(0, 1, version << 4, 0xF0)]], *clause]
        for version in (4, 6)
        for clause in _clauses(cable, version)
    ]
    first = bpf.instruction(bpf.HEADER_TO_X, 0)
    return first + b"".join(map(_assembled, clauses)) + bpf.instruction(bpf.RETURN, 0)


def _clauses(cable: Cable, version: int) -> list[Clause]:
    """Return the tests of packets of one version of IP; the overlay's may have the other one."""
    clauses: list[Clause] = []
    extended: Group = [[_protocol(version, number)] for number in (*EXTENSIONS, FRAGMENT)]
    if cable.overlay:  # the sender may be anybody
        ports = [cable.overlay.port_number] if cable.overlay.port_number else []
        number = cable.overlay.protocol(version).number
        clauses.append([_udp(version, ports, sources=False) or [[_protocol(version, number)]]])
        if version == 6:
            clauses.append([extended])
    if version != cable.local.address.version:
        return clauses
    hosts = _hosts(cable)
    clauses.append([hosts, [[_protocol(version, _ESP)], *_udp(version, cable.ike_ports)]])
    if cable.joins_subnets:
        local, remote = cable.local.networks, cable.remote.networks
        clauses.append([_within(local, source=True), _within(remote, source=False)])
        clauses.append([_within(remote, source=True), _within(local, source=False)])
    elif not cable.overlay:
        clauses.append([hosts])
    if version == 6:
        clauses.append([hosts, extended])
    return clauses


def _hosts(cable: Cable) -> Group:
    """Return the tests of packets between the gateways; a client may have any address."""
    local = (host_network(cable.local.address),)
    if cable.role is Role.SERVER:
        return [*_within(local, source=True), *_within(local, source=False)]
    remote = (host_network(cable.remote_host),)
    return [
        [*_within(first, source=True)[0], *_within(second, source=False)[0]]
        for first, second in ((local, remote), (remote, local))
    ]


def _protocol(version: int, number: int) -> Test:
    return Test(9 if version == 4 else 6, 1, number)


def _udp(version: int, ports: Iterable[int], *, sources: bool = True) -> Group:
    """Return the tests of UDP with one of the ports as destination or, if wanted, as source."""
    start = 0 if version == 4 else 40
    offsets = (start, start + 2) if sources else (start + 2,)
    return [
        [
            _protocol(version, IpProtocol.UDP.number),
            Test(offset, 2, port, after_header=version == 4),
        ]
        for port in ports
        for offset in offsets
    ]


def _within(networks: tuple[AnyNetwork, ...], *, source: bool) -> Group:
    """Return the tests of an address in one of the networks, or in one network around many."""
    if len(networks) > MAX_NETWORKS:
        around = networks[0]
        while not all(network.subnet_of(around) for network in networks):  # type: ignore[arg-type]
            around = around.supernet()
        networks = (around,)
    return [_in_network(network, source=source) for network in networks]


def _in_network(network: AnyNetwork, *, source: bool) -> Alternative:
    length = network.max_prefixlen // 8
    start = (12 if length == 4 else 8) + (0 if source else length)
    value, mask = network.network_address.packed, network.netmask.packed
    return [
        Test(
            offset=start + at,
            size=4,
            value=int.from_bytes(value[at : at + 4]),
            mask=int.from_bytes(mask[at : at + 4]),
        )
        for at in range(0, length, 4)
        if any(mask[at : at + 4])
    ]


def _assembled(clause: Clause) -> bytes:
    """Return a clause as instructions: it accepts the packet, or ends behind its last one."""
    sizes = [[[3 if _masked(test) else 2 for test in tests] for tests in group] for group in clause]
    total = sum(sum(map(sum, group)) for group in sizes) + 1
    made: list[bytes] = []
    for group, group_sizes in zip(clause, sizes, strict=True):
        group_end = len(made) + sum(map(sum, group_sizes))
        for number, tests in enumerate(group):
            end = len(made) + sum(group_sizes[number])
            failed = end if number + 1 < len(group) else total
            for test in tests:
                made += _loaded(test)
                here = len(made) + 1
                passed = here if test is not tests[-1] else group_end
                made.append(
                    bpf.instruction(bpf.JUMP_IF_EQUAL, test.value, passed - here, failed - here)
                )
    return b"".join([*made, bpf.instruction(bpf.RETURN, ENOUGH)])


def _masked(test: Test) -> bool:
    return test.mask not in (-1, 0xFFFFFFFF)


def _loaded(test: Test) -> list[bytes]:
    load = (bpf.LOAD_AFTER_HEADER if test.after_header else bpf.LOAD) | bpf.SIZES[test.size]
    masked = [bpf.instruction(bpf.AND, test.mask)] if _masked(test) else []
    return [bpf.instruction(load, test.offset), *masked]
