"""What is wrong between fields: each with the reason and a way out.

None stands where a field has a problem of its own.
"""

from bisect import bisect_left
from collections.abc import Iterator

from cablectl.config.reader import Path, Problem, field
from cablectl.config.spec import Spec
from cablectl.linux.esp_offload import NEEDED
from cablectl.model.cable import vtep
from cablectl.model.wishes import (
    OVERLAYS,
    PLUTO_PORTS,
    AnyAddress,
    AnyNetwork,
    Encapsulation,
    Endpoint,
    Initiate,
    Ipsec,
    Mode,
    Offload,
    OverlayKind,
)

Subnets = list[tuple[Path, AnyNetwork]]


def contradictions(spec: Spec) -> Iterator[Problem]:
    """Yield the problems between the fields of a file."""
    yield from _mode(spec)
    ipsec = spec.ipsec or Ipsec()
    if ipsec.pfs_group and not ipsec.esp:
        yield Problem(
            ("ipsec", "pfs_group"),
            "Libreswan takes a group only with algorithms; allowed: with esp, such as"
            " esp: [aes_gcm-null]",
        )
    if spec.endpoints is None:
        return
    present = [(i, each) for i, each in enumerate(spec.endpoints) if each is not None]
    yield from _number(spec, len(spec.endpoints))
    yield from _collisions(present)
    addressed = [(i, each) for i, each in present if each.address]
    yield from _families(spec, addressed)
    yield from _roles(spec, ipsec, addressed)
    yield from _ports(spec, ipsec, present)
    subnets: Subnets = [
        (("endpoints", i, "subnets", j), subnet)
        for i, each in addressed
        for j, subnet in enumerate(each.subnets or ())
        if subnet and subnet.network_address != each.address
    ]
    yield from _subnets_for_the_mode(spec, addressed, subnets)
    yield from _swallowed(subnets, [each.address for _, each in addressed])
    yield from _overlaps(subnets)
    if spec.device:
        yield from _vteps(spec, addressed, subnets)


def _mode(spec: Spec) -> Iterator[Problem]:
    """Find what the mode can't do, and what is said for nothing."""
    overlay = spec.overlay
    if spec.mode is Mode.TUNNEL and overlay not in (None, OverlayKind.NONE):
        yield Problem(
            ("overlay",),
            f"{overlay} is not allowed in mode tunnel, which carries subnets by itself;"
            " allowed: none, or mode: transport",
        )
    if spec.mode is Mode.TUNNEL and spec.ipsec and spec.ipsec.offload is Offload.PACKET:
        yield Problem(
            ("ipsec", "offload"),
            "packet is not allowed in mode tunnel; allowed: auto, or mode: transport",
        )
    if spec.mode is Mode.TRANSPORT and overlay is None:
        yield Problem(("overlay",), f"missing; allowed in mode transport: {', '.join(OverlayKind)}")
    if spec.mode is Mode.NONE:
        if overlay is not OverlayKind.VXLAN:
            yield Problem(("overlay",), "allowed in mode none: vxlan")
        if spec.allow_cleartext is False:
            yield Problem(
                ("mode",),
                "none sends everything in clear text;"
                " allowed: transport, or none with allow_cleartext: true",
            )
        if spec.ipsec:
            yield Problem(("ipsec",), "not used in mode none; allowed: mode: transport, or nothing")
    elif spec.allow_cleartext:
        yield Problem(
            ("allow_cleartext",), f"true is not allowed in mode {spec.mode}; allowed: false"
        )
    for kind in OVERLAYS:
        if getattr(spec, kind) and overlay is not kind:
            yield Problem((kind.value,), f"not used; allowed: overlay: {kind}, or nothing")
    if spec.vtep and not spec.device:
        yield Problem(("vtep",), "not used without an overlay; allowed: nothing")


def _number(spec: Spec, given: int) -> Iterator[Problem]:
    if given < 2:
        yield Problem(("endpoints",), f"{given} given; allowed: two or more endpoints")
    elif given > 2 and spec.device and not spec.device.serves_all_peers:
        yield Problem(
            ("endpoints",),
            f"{given} given, and a device of overlay {spec.overlay} has one peer; allowed: two,"
            " a file with a device of its own for each pair, or overlay: vxlan",
        )


def _collisions(endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find what two endpoints share; each is told of the first one that has it."""
    for name in ("cluster", "hostname", "address", "public_address"):
        first: dict[object, int] = {}
        for i, endpoint in endpoints:
            value = getattr(endpoint, name)
            if value is not None and (other := first.setdefault(value, i)) != i:
                yield Problem(
                    ("endpoints", i, name),
                    f"{value} is that of endpoints[{other}] too; allowed: one of its own",
                )
    named: dict[str, tuple[int, AnyAddress]] = {}
    for i, endpoint in endpoints:
        if not (endpoint.cluster and endpoint.address):
            continue
        name = endpoint.cable_name.replace(".", "-")
        other, address = named.setdefault(name, (i, endpoint.address))
        if address != endpoint.address:
            yield Problem(
                ("endpoints", i, "cluster"),
                f"{endpoint.cluster} gives a cable the name that endpoints[{other}] gives it;"
                " allowed: another cluster",
            )


def _families(spec: Spec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find what isn't of the version of IP that the first endpoint has."""
    if not endpoints:
        return
    version = endpoints[0][1].address.version
    for i, each in endpoints:
        named: list[tuple[Path, AnyAddress | AnyNetwork | None]] = [
            (("address",), each.address),
            (("public_address",), each.public_address),
            *((("subnets", j), subnet) for j, subnet in enumerate(each.subnets or ())),
        ]
        for path, value in named:
            if value and value.version != version:
                yield Problem(
                    ("endpoints", i, *path),
                    f"{value} is IPv{value.version};"
                    f" allowed: IPv{version}, as endpoints[{endpoints[0][0]}].address",
                )
    network = spec.vtep and spec.vtep.network
    if network and network.version != version:
        yield Problem(
            ("vtep", "network"), f"{network} is IPv{network.version}; allowed: IPv{version}"
        )


def _roles(spec: Spec, ipsec: Ipsec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find what NAT, a preferred server, encapsulation and offload don't allow."""
    natted = [("endpoints", i, "public_address") for i, each in endpoints if each.behind_nat]
    servers = [("endpoints", i, "preferred_server") for i, e in endpoints if e.preferred_server]
    if natted and spec.mode in (Mode.TRANSPORT, Mode.NONE):
        why = {
            Mode.TRANSPORT: "Libreswan agrees on no transport mode through NAT",
            Mode.NONE: "a VXLAN in clear text doesn't pass NAT",
        }
        yield Problem(
            natted[0],
            f"not allowed in mode {spec.mode}: {why[spec.mode]}; allowed: null, or mode: tunnel",
        )
    if natted and ipsec.encapsulation is Encapsulation.NO:
        yield Problem(("ipsec", "encapsulation"), "no is not allowed with NAT; allowed: yes, auto")
    if natted and len(servers) > 1:
        yield Problem(
            servers[1],
            f"true is not allowed: {field(servers[0])} is true too, and which of the two waits"
            " is no choice where one is behind NAT; allowed: true at the end that can be reached",
        )
    if servers and ipsec.initiate is Initiate.BOTH:
        yield Problem(
            ("ipsec", "initiate"),
            f"both is not allowed with {field(servers[0])}: a server waits; allowed: auto",
        )
    in_udp = natted or ipsec.encapsulation is not Encapsulation.NO
    told = ipsec.offload is Offload.PACKET and spec.mode is Mode.TUNNEL  # by _mode
    if ipsec.offload in NEEDED and in_udp and not told:
        yield Problem(
            ("ipsec", "offload"),
            f"{ipsec.offload} is not allowed with UDP encapsulation, which no NIC offloads;"
            " allowed: auto, or encapsulation: no where there is no NAT",
        )


def _ports(spec: Spec, ipsec: Ipsec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find what pluto has bound already when the device wants to."""
    wanted = spec.device
    if wanted is None or wanted.port is None or spec.mode is Mode.NONE:
        return
    port = wanted.port_number
    if port in PLUTO_PORTS:
        advice = f"allowed: any other port, such as {type(wanted)().port} for the overlay"
        yield Problem((wanted.kind.value, "port"), f"{port} is pluto's own; {advice}")
        return
    paths: list[tuple[Path, int | None]] = [(("ipsec", "ike_port"), ipsec.ike_port)]
    paths += [(("endpoints", i, "ike_port"), each.ike_port) for i, each in endpoints]
    for path, ike_port in paths:
        if ike_port == port:
            yield Problem(
                path,
                f"{port} is the overlay's port too; allowed: any other port, such as 4500 for IKE",
            )


def _subnets_for_the_mode(
    spec: Spec, endpoints: list[tuple[int, Endpoint]], subnets: Subnets
) -> Iterator[Problem]:
    """Find ends with nothing to tunnel, and subnets that nothing would carry."""
    if spec.mode is Mode.TUNNEL:
        for i, each in endpoints:
            known = each.subnets is not None and None not in each.subnets
            if known and not each.networks:
                yield Problem(
                    ("endpoints", i, "subnets"),
                    "mode tunnel carries nothing but subnets; allowed: at least one besides the"
                    " gateway's own address, or mode: transport",
                )
    if spec.mode is Mode.TRANSPORT and spec.overlay is OverlayKind.NONE and subnets:
        yield Problem(
            subnets[0][0],
            "not allowed in mode transport without an overlay, which carries the hosts' own traffic"
            f" alone; allowed: overlay: {', '.join(OVERLAYS)}, or mode: tunnel",
        )


def _swallowed(subnets: Subnets, gateways: list[AnyAddress]) -> Iterator[Problem]:
    """Find subnets with a gateway in them: their route would send the cable through itself."""
    in_order = {
        version: sorted((each for each in gateways if each.version == version), key=int)
        for version in (4, 6)
    }
    for path, subnet in subnets:
        ours = in_order[subnet.version]
        next_one = bisect_left(ours, int(subnet.network_address), key=int)
        if next_one < len(ours) and ours[next_one] in subnet:
            yield Problem(
                path,
                f"{subnet} holds the gateway {ours[next_one]}; allowed: subnets without a gateway",
            )


def _overlaps(subnets: Subnets) -> Iterator[Problem]:
    """Find subnets that would be routed twice, or away from where they are.

    Of two networks that overlap one holds the other: in the order of their first addresses, the
    larger first, those before it that end before it begins hold none that comes later, either.
    """
    numbers = {path: number for number, (path, _) in enumerate(subnets)}
    outer: Subnets = []
    in_order = sorted(
        subnets, key=lambda each: (each[1].version, int(each[1].network_address), each[1].prefixlen)
    )
    for each in in_order:
        while outer and not _overlap(outer[-1][1], each[1]):
            outer.pop()
        for holder in outer:
            (where, one), (path, other) = sorted((holder, each), key=lambda it: numbers[it[0]])
            yield Problem(path, f"{other} overlaps {one} of {field(where)}; allowed: subnets apart")
        outer.append(each)


def _overlap(one: AnyNetwork, other: AnyNetwork) -> bool:
    return one.version == other.version and one.overlaps(other)


def _vteps(
    spec: Spec, endpoints: list[tuple[int, Endpoint]], subnets: Subnets
) -> Iterator[Problem]:
    """Find gateways with one VTEP, and an overlay's network that is somebody else's."""
    version = endpoints[0][1].address.version if endpoints else 4
    network = spec.vtep_network(version)
    first: dict[object, tuple[int, AnyAddress]] = {}
    for i, each in endpoints:
        address = each.address
        if not address.version == version == network.version:
            continue
        its_vtep = vtep(address, network).ip
        for mark in (its_vtep, each.mac):
            j, other = first.setdefault(mark, (i, address))
            if other != address:
                yield Problem(
                    ("endpoints", i, "address"),
                    f"{address} and {other} of endpoints[{j}] give one VTEP,"
                    f" {vtep(other, network).ip}; allowed: addresses that differ after the first"
                    f" {network.prefixlen} bits, or another vtep.network",
                )
                break
    taken: list[AnyAddress | AnyNetwork] = [each.address for _, each in endpoints]
    taken += [subnet for _, subnet in subnets]
    for one in taken:
        network = spec.vtep_network(one.version)
        if network.version == one.version and _in(one, network):
            yield Problem(
                ("vtep", "network"),
                f"{network} holds {one}; allowed: a network of its own",
            )


def _in(what: AnyAddress | AnyNetwork, network: AnyNetwork) -> bool:
    if hasattr(what, "network_address"):
        return network.overlaps(what)  # type: ignore[arg-type]
    return what in network
