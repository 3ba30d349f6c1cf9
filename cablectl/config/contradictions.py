"""Problems between fields, each with its reason and a correction.

A field with a problem of its own is None here.
"""

from bisect import bisect_left
from collections.abc import Iterator

from cablectl.config.reader import Path, Problem
from cablectl.config.spec import Spec
from cablectl.config.values import field
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

# Of one gateway in tunnel mode, where pluto takes 13 KiB and up to 8 ms for each (docs/mesh.md).
MAX_CONNECTIONS = 10_000
Subnets = list[tuple[Path, AnyNetwork]]


def contradictions(spec: Spec) -> Iterator[Problem]:
    """Yield the problems between the fields of a file."""
    yield from _mode(spec)
    ipsec = spec.ipsec or Ipsec()
    if ipsec.pfs_group and not ipsec.esp:
        yield Problem(
            ("ipsec", "pfs_group"),
            "Libreswan takes a PFS group only together with esp; add, for example,"
            " esp: [aes_gcm-null]",
        )
    yield from _ciphers(ipsec)
    if spec.endpoints is None:
        return
    present = [(i, end) for i, end in enumerate(spec.endpoints) if end is not None]
    yield from _number(spec, len(spec.endpoints))
    yield from _collisions(present)
    addressed = [(i, end) for i, end in present if end.address]
    yield from _families(spec, addressed)
    yield from _roles(spec, ipsec, addressed)
    yield from _ports(spec, ipsec, present)
    yield from _connections(spec, present)
    subnets: Subnets = [
        (("endpoints", i, "subnets", j), subnet)
        for i, end in addressed
        for j, subnet in enumerate(end.subnets or ())
        if subnet and subnet.network_address != end.address
    ]
    yield from _subnets_for_the_mode(spec, addressed, subnets)
    yield from _gateways_in_subnets(subnets, [end.address for _, end in addressed])
    yield from _overlaps(subnets)
    if spec.device:
        yield from _vteps(spec, addressed, subnets)


def _mode(spec: Spec) -> Iterator[Problem]:
    """Find fields that the mode doesn't support, and fields without effect."""
    overlay = spec.overlay
    if spec.mode is Mode.TUNNEL and overlay not in (None, OverlayKind.NONE):
        yield Problem(
            ("overlay",),
            f"'{overlay}' is not allowed in mode tunnel, which needs no overlay to carry subnets;"
            " write overlay: none, or mode: transport",
        )
    if spec.mode is Mode.TUNNEL and spec.ipsec and spec.ipsec.offload is Offload.PACKET:
        yield Problem(
            ("ipsec", "offload"),
            "'packet' is not allowed in mode tunnel; write offload: auto, or mode: transport",
        )
    if spec.mode is Mode.TRANSPORT and overlay is None:
        yield Problem(("overlay",), f"missing; allowed in mode transport: {', '.join(OverlayKind)}")
    if spec.mode is Mode.NONE:
        if overlay is not OverlayKind.VXLAN:
            wrong = f"'{overlay}' is not allowed" if overlay else "missing"
            yield Problem(("overlay",), f"{wrong}; allowed in mode none: vxlan")
        if spec.allow_cleartext is False:
            yield Problem(
                ("mode",),
                "'none' sends everything in clear text;"
                " write mode: transport, or add allow_cleartext: true",
            )
        if spec.ipsec:
            yield Problem(
                ("ipsec",), "ipsec has no effect in mode none; remove it, or write mode: transport"
            )
    elif spec.allow_cleartext:
        yield Problem(
            ("allow_cleartext",), f"not allowed in mode {spec.mode}; remove it, or write false"
        )
    for kind in OVERLAYS:
        if getattr(spec, kind) and overlay is not kind:
            why = f"with overlay: {overlay}" if overlay else "without an overlay"
            other = "" if spec.mode is Mode.TUNNEL else f", or write overlay: {kind}"
            yield Problem((kind.value,), f"{kind} has no effect {why}; remove it{other}")
    if spec.vtep and not spec.device:
        yield Problem(("vtep",), "vtep has no effect without an overlay; remove it")


def _ciphers(ipsec: Ipsec) -> Iterator[Problem]:
    """Find ESP algorithms that only authenticate (RFC 2410, RFC 4543)."""
    for i, algorithm in enumerate(ipsec.esp or ()):
        cipher = (algorithm or "").partition("-")[0]
        if "null" in cipher or "gmac" in cipher:
            yield Problem(
                ("ipsec", "esp", i),
                f"'{algorithm}' doesn't encrypt; allowed: an algorithm that encrypts, such as"
                " aes_gcm-null",
            )


def _number(spec: Spec, given: int) -> Iterator[Problem]:
    if given < 2:
        yield Problem(("endpoints",), f"{given} given; allowed: two or more endpoints")
    elif given > 2 and spec.device and not spec.device.serves_all_peers:
        yield Problem(
            ("endpoints",),
            f"{given} given, but a {spec.overlay} device has one peer; allowed: two endpoints"
            " (one file and one device for each pair), or overlay: vxlan",
        )


def _collisions(endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find values that an endpoint shares with an earlier one, and equal names of cables."""
    for name in ("cluster", "hostname", "address", "public_address"):
        first: dict[object, int] = {}
        for i, endpoint in endpoints:
            value = getattr(endpoint, name)
            if value is not None and (other := first.setdefault(value, i)) != i:
                yield Problem(
                    ("endpoints", i, name),
                    f"'{value}' is the {name} of endpoints[{other}] too; give each endpoint its own"
                    f" {name}",
                )
    cables: dict[str, tuple[int, AnyAddress]] = {}
    for i, endpoint in endpoints:
        if not (endpoint.cluster and endpoint.address):
            continue
        name = endpoint.cable_name.replace(".", "-")
        other, address = cables.setdefault(name, (i, endpoint.address))
        if address != endpoint.address:
            yield Problem(
                ("endpoints", i, "cluster"),
                f"'{endpoint.cluster}' gives a cable the same name as endpoints[{other}];"
                " choose another cluster name",
            )


def _families(spec: Spec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find addresses and networks whose IP version differs from the first endpoint's."""
    if not endpoints:
        return
    first, version = endpoints[0][0], endpoints[0][1].address.version
    for i, endpoint in endpoints:
        values: list[tuple[Path, AnyAddress | AnyNetwork | None]] = [
            (("address",), endpoint.address),
            (("public_address",), endpoint.public_address),
            *((("subnets", j), subnet) for j, subnet in enumerate(endpoint.subnets or ())),
        ]
        for path, value in values:
            if value and value.version != version:
                yield Problem(
                    ("endpoints", i, *path),
                    f"'{value}' is IPv{value.version};"
                    f" allowed: IPv{version}, like endpoints[{first}].address",
                )
    network = spec.vtep and spec.vtep.network
    if network and network.version != version:
        yield Problem(
            ("vtep", "network"),
            f"'{network}' is IPv{network.version};"
            f" allowed: IPv{version}, like endpoints[{first}].address",
        )


def _roles(spec: Spec, ipsec: Ipsec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find conflicts between NAT, a preferred server, encapsulation and offload."""
    natted = [("endpoints", i, "public_address") for i, end in endpoints if end.behind_nat]
    servers = [("endpoints", i, "preferred_server") for i, end in endpoints if end.preferred_server]
    if natted and spec.mode in (Mode.TRANSPORT, Mode.NONE):
        reasons = {
            Mode.TRANSPORT: "Libreswan doesn't negotiate transport mode through NAT",
            Mode.NONE: "VXLAN in clear text doesn't pass NAT",
        }
        yield Problem(
            natted[0],
            f"not allowed in mode {spec.mode}: {reasons[spec.mode]};"
            " remove it, or write mode: tunnel",
        )
    if natted and ipsec.encapsulation is Encapsulation.NO:
        yield Problem(
            ("ipsec", "encapsulation"), "'no' is not allowed with NAT; allowed: yes, auto"
        )
    if natted and len(servers) > 1:
        yield Problem(
            servers[1],
            f"not allowed, since {field(servers[0])} is true too and an end is behind NAT;"
            " write true only at the end that the other end can reach",
        )
    if servers and ipsec.initiate is Initiate.BOTH:
        yield Problem(
            ("ipsec", "initiate"),
            f"'both' is not allowed with {field(servers[0])}: a server waits; allowed: auto",
        )
    in_udp = natted or ipsec.encapsulation is not Encapsulation.NO
    reported = ipsec.offload is Offload.PACKET and spec.mode is Mode.TUNNEL  # by _mode
    if ipsec.offload in NEEDED and in_udp and not reported:
        yield Problem(
            ("ipsec", "offload"),
            f"'{ipsec.offload}' is not allowed with UDP encapsulation, which no NIC offloads;"
            " write offload: auto, or encapsulation: no if there is no NAT",
        )


def _ports(spec: Spec, ipsec: Ipsec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find ports that both pluto and the overlay's device would bind."""
    wanted = spec.device
    if wanted is None or wanted.port is None or spec.mode is Mode.NONE:
        return
    port = wanted.port_number
    if port in PLUTO_PORTS:
        advice = f"choose another port for the overlay, such as {type(wanted)().port}"
        yield Problem((wanted.kind.value, "port"), f"'{port}' is pluto's own port; {advice}")
        return
    paths: list[tuple[Path, int | None]] = [(("ipsec", "ike_port"), ipsec.ike_port)]
    paths += [(("endpoints", i, "ike_port"), end.ike_port) for i, end in endpoints]
    for path, ike_port in paths:
        if ike_port == port:
            yield Problem(
                path,
                f"'{port}' is the overlay's port too; choose another port for IKE, such as 4500",
            )


def _connections(spec: Spec, endpoints: list[tuple[int, Endpoint]]) -> Iterator[Problem]:
    """Find the gateway with the most connections, if pluto would need minutes to load them."""
    if spec.mode is not Mode.TUNNEL or not endpoints:
        return
    known = [(i, end) for i, end in endpoints if end.address and None not in (end.subnets or ())]
    subnets = {i: len(end.networks) for i, end in known if end.subnets}
    total = sum(subnets.values())
    connections = {i: count * (total - count) for i, count in subnets.items()}
    most = max(connections, key=lambda i: connections[i], default=None)
    if most is not None and connections[most] > MAX_CONNECTIONS:
        yield Problem(
            ("endpoints", most, "subnets"),
            f"{connections[most]} connections, one for each pair of a subnet here and a subnet"
            f" elsewhere; allowed: at most {MAX_CONNECTIONS}; give fewer, larger subnets, or write"
            " mode: transport with overlay: vxlan",
        )


def _subnets_for_the_mode(
    spec: Spec, endpoints: list[tuple[int, Endpoint]], subnets: Subnets
) -> Iterator[Problem]:
    """Find endpoints without a subnet to tunnel, and subnets that the cable can't carry."""
    if spec.mode is Mode.TUNNEL:
        for i, endpoint in endpoints:
            known = endpoint.subnets is not None and None not in endpoint.subnets
            if known and not endpoint.networks:
                yield Problem(
                    ("endpoints", i, "subnets"),
                    "mode tunnel carries only subnets; add a subnet besides the gateway's own"
                    " address, or write mode: transport",
                )
    if spec.mode is Mode.TRANSPORT and spec.overlay is OverlayKind.NONE and subnets:
        yield Problem(
            subnets[0][0],
            "mode transport without an overlay carries only the hosts' own traffic; remove the"
            f" subnets, choose an overlay ({', '.join(OVERLAYS)}), or write mode: tunnel",
        )


def _gateways_in_subnets(subnets: Subnets, gateways: list[AnyAddress]) -> Iterator[Problem]:
    """Find subnets that contain a gateway: their route would send the cable through itself."""
    sorted_gateways = {
        version: sorted((address for address in gateways if address.version == version), key=int)
        for version in (4, 6)
    }
    for path, subnet in subnets:
        candidates = sorted_gateways[subnet.version]
        # Only the first gateway at or after the subnet's first address can tell.
        index = bisect_left(candidates, int(subnet.network_address), key=int)
        if index < len(candidates) and candidates[index] in subnet:
            yield Problem(
                path,
                f"'{subnet}' contains the gateway {candidates[index]};"
                " use subnets that contain no gateway",
            )


def _overlaps(subnets: Subnets) -> Iterator[Problem]:
    """Find subnets that overlap: the routes of both would conflict.

    Of two overlapping networks one contains the other. The networks are visited by first address,
    the larger first. `containing` is then the stack of networks around the current one: a network
    that ends before the current one begins contains none of the following networks.
    """
    file_order = {path: number for number, (path, _) in enumerate(subnets)}
    containing: Subnets = []
    by_address = sorted(
        subnets,
        key=lambda entry: (entry[1].version, int(entry[1].network_address), entry[1].prefixlen),
    )
    for entry in by_address:
        while containing and not _overlap(containing[-1][1], entry[1]):
            containing.pop()
        for outer in containing:
            pair = sorted((outer, entry), key=lambda member: file_order[member[0]])
            (earlier_path, earlier), (path, later) = pair
            yield Problem(
                path,
                f"'{later}' overlaps {earlier} of {field(earlier_path)};"
                " use subnets that don't overlap",
            )
        containing.append(entry)


def _overlap(first: AnyNetwork, second: AnyNetwork) -> bool:
    return first.version == second.version and first.overlaps(second)


def _vteps(
    spec: Spec, endpoints: list[tuple[int, Endpoint]], subnets: Subnets
) -> Iterator[Problem]:
    """Find gateways with the same VTEP, and a VTEP network that is used elsewhere."""
    version = endpoints[0][1].address.version if endpoints else 4
    network = spec.vtep_network(version)
    owners: dict[object, tuple[int, AnyAddress]] = {}
    for i, endpoint in endpoints:
        address = endpoint.address
        if not address.version == version == network.version:
            continue
        for identifier in (vtep(address, network).ip, endpoint.mac):
            j, owner = owners.setdefault(identifier, (i, address))
            if owner != address:
                yield Problem(
                    ("endpoints", i, "address"),
                    f"{address} and {owner} of endpoints[{j}] give the same VTEP,"
                    f" {vtep(owner, network).ip}; use addresses that differ after the first"
                    f" {network.prefixlen} bits, or another vtep.network",
                )
                break
    used: list[AnyAddress | AnyNetwork] = [endpoint.address for _, endpoint in endpoints]
    used += [subnet for _, subnet in subnets]
    for value in used:
        network = spec.vtep_network(value.version)
        if network.version == value.version and _contains(network, value):
            yield Problem(
                ("vtep", "network"),
                f"'{network}' contains {value}; use a network without gateways and subnets",
            )


def _contains(network: AnyNetwork, value: AnyAddress | AnyNetwork) -> bool:
    if hasattr(value, "network_address"):
        return network.overlaps(value)  # type: ignore[arg-type]
    return value in network
