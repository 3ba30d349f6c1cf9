"""Problems between the addresses of a file: equal ones, families, subnets, VTEPs.

A field with a problem of its own is None here.
"""

from bisect import bisect_left
from collections.abc import Iterator

from cablectl.config.reader import Path, Problem
from cablectl.config.spec import Spec
from cablectl.config.values import field
from cablectl.model.cable import vtep
from cablectl.model.wishes import AnyAddress, AnyNetwork, Endpoint, Ipsec

Endpoints = list[tuple[int, Endpoint]]  # each with its index in the file
Subnets = list[tuple[Path, AnyNetwork]]


def conflicts(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Yield the problems between the addresses of a file."""
    yield from _collisions(spec, endpoints)
    addressed = [(i, end) for i, end in endpoints if end.address]
    yield from _families(spec, addressed)
    subnets = subnets_of(addressed)
    yield from _gateways_in_subnets(subnets, [end.address for _, end in addressed])
    yield from _overlaps(subnets)
    if spec.device:
        yield from _vteps(spec, addressed, subnets)


def subnets_of(endpoints: Endpoints) -> Subnets:
    """Return the subnets of the endpoints, without any that is only the gateway's own address."""
    return [
        (("endpoints", i, "subnets", j), subnet)
        for i, end in endpoints
        for j, subnet in enumerate(end.subnets or ())
        if subnet and subnet.network_address != end.address
    ]


def _collisions(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find values that an endpoint shares with an earlier one, and equal names of cables."""
    for name in ("cluster", "hostname", "address"):
        first: dict[object, int] = {}
        for i, endpoint in endpoints:
            value = getattr(endpoint, name)
            if value is not None and (other := first.setdefault(value, i)) != i:
                shown = endpoint.short_hostname if name == "hostname" else value
                yield Problem(
                    ("endpoints", i, name),
                    f"'{shown}' is the {name} of endpoints[{other}] too; give each endpoint its own"
                    f" {name}",
                )
    yield from _shared_public_addresses(spec, endpoints)
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


def _shared_public_addresses(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find gateways that nobody can tell apart from outside: one public address, one IKE port.

    Gateways of one site may share both: if no gateway is elsewhere, nobody reaches them there.
    """
    usual = (spec.ipsec or Ipsec()).ike_port
    sites = {end.site for _, end in endpoints}
    if len(sites) == 1 and None not in sites:
        return
    first: dict[object, int] = {}
    for i, end in endpoints:
        port = end.ike_port or usual
        if (
            end.public_address is None
            or (other := first.setdefault((end.public_address, port), i)) == i
        ):
            continue
        yield Problem(
            ("endpoints", i, "public_address"),
            f"'{end.public_address}' is the public_address of endpoints[{other}] too, with the same"
            f" IKE port {port}; give one of them another ike_port, which the router forwards",
        )


def _families(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
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


def _vteps(spec: Spec, endpoints: Endpoints, subnets: Subnets) -> Iterator[Problem]:
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
