"""Problems between the addresses of a file: equal ones, families, subnets, VTEPs.

A field with a problem of its own is None here.
"""

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator, Mapping

from cablectl.config.reader import Path, Problem
from cablectl.config.spec import Spec
from cablectl.config.values import field
from cablectl.model.vteps import host_bits, mac_of, twins_of, vtep
from cablectl.model.wishes import (
    AnyAddress,
    AnyNetwork,
    Endpoint,
    Ipsec,
    Mode,
)

Endpoints = list[tuple[int, Endpoint]]  # each with its index in the file
Subnets = list[tuple[Path, AnyNetwork]]


def conflicts(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Yield the problems between the addresses of a file."""
    yield from _collisions(spec, endpoints)
    addressed = [(i, end) for i, end in endpoints if end.address]
    yield from _families(spec, addressed)
    subnets = subnets_of(addressed)
    yield from _gateways_in_subnets(spec, subnets, addressed)
    yield from _overlaps(subnets)
    yield from _health_addresses(spec, addressed)
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


def _health_addresses(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find ends of echoes that the traffic selectors don't cover, or that no echo uses."""
    for i, end in endpoints:
        path = ("endpoints", i, "health_address")
        if end.health_address is None or end.subnets is None or None in end.subnets:
            continue
        if spec.device:
            yield Problem(
                path,
                "health_address has no effect with an overlay; remove it",
            )
        elif spec.mode is not Mode.TUNNEL:
            yield Problem(path, f"health_address has no effect in mode {spec.mode}; remove it")
        elif not any(end.health_address in network for network in end.networks):
            yield Problem(
                path,
                f"'{end.health_address}' is in no subnet of this endpoint; allowed: an address of"
                " the gateway within its subnets",
            )


def _collisions(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find values that an endpoint shares with an earlier one, and equal names of cables."""
    for name in ("cluster", "hostname"):
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
    yield from _shared_addresses(spec, endpoints)
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


def _shared_addresses(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find gateways with one address that aren't each behind a NAT of its own.

    Such a gateway has a public address, or it is the client of a server.
    """
    tunnel, served = spec.mode is Mode.TUNNEL, any(end.preferred_server for _, end in endpoints)

    def translated(end: Endpoint) -> bool:
        return tunnel and bool(end.public_address or (served and not end.preferred_server))

    earlier: dict[tuple[AnyAddress, str | None], tuple[int, Endpoint]] = {}
    for i, end in endpoints:
        if end.address is None:
            continue
        first, other = earlier.setdefault((end.address, None), (i, end))
        beside, _ = earlier.setdefault((end.address, end.site), (i, end)) if end.site else (i, end)
        if beside != i:
            first, nat = beside, ""
        elif first == i or (translated(end) and translated(other)):
            continue
        else:
            nat = ", or a public_address if each is behind a NAT" if tunnel else ""
        yield Problem(
            ("endpoints", i, "address"),
            f"'{end.address}' is the address of endpoints[{first}] too; give each endpoint its own"
            f" address{nat}",
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
    for name in ("network", "underlay"):
        network: AnyNetwork | None = getattr(spec.vtep, name, None)
        if network and network.version != version:
            yield Problem(
                ("vtep", name),
                f"'{network}' is IPv{network.version};"
                f" allowed: IPv{version}, like endpoints[{first}].address",
            )


def _gateways_in_subnets(spec: Spec, subnets: Subnets, endpoints: Endpoints) -> Iterator[Problem]:
    """Find subnets that contain a gateway: their routes would send the cable through itself.

    A gateway may be in a subnet of its own cluster. An overlay's routes then must not lead to the
    address at which others reach it.
    """
    sites = Counter(end.site for _, end in endpoints if end.site)
    held = [
        (address, i, address in reached)
        for i, end in endpoints
        for reached in [_reached(end, sites)]
        for address in sorted({end.address, *reached}, key=int)
    ]
    by_version = {
        version: sorted((entry for entry in held if entry[0].version == version), key=_number)
        for version in (4, 6)
    }
    for path, subnet in subnets:
        inside = by_version[subnet.version]
        for n in range(bisect_left(inside, int(subnet.network_address), key=_number), len(inside)):
            address, i, is_reached = inside[n]
            if address not in subnet:
                break
            if i != path[1]:
                yield Problem(
                    path,
                    f"'{subnet}' contains the gateway {address} of endpoints[{i}];"
                    " use subnets that contain no other gateway",
                )
                break
            if is_reached and spec.device:
                yield Problem(
                    path,
                    f"'{subnet}' contains the gateway {address}, at which others reach it; use"
                    " another subnet, add a public_address outside of it with mode: tunnel, or"
                    " write mode: tunnel without an overlay",
                )
                break


def _number(entry: tuple[AnyAddress, int, bool]) -> int:
    return int(entry[0])


def _reached(end: Endpoint, sites: Mapping[str, int]) -> set[AnyAddress]:
    """Return the addresses at which other gateways reach an endpoint."""
    neighbours = end.site is not None and sites[end.site] > 1
    reached = {end.address} if neighbours or not end.public_address else set()
    return reached | ({end.public_address} if end.public_address else set())


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
    """Find gateways with the same VTEP, and networks of cablectl's own that are used elsewhere."""
    version = endpoints[0][1].address.version if endpoints else 4
    networks = {"network": spec.vtep_network(version)}
    if spec.mode is Mode.TUNNEL:
        networks["underlay"] = spec.underlay_network(version)
    of_version = [(i, end) for i, end in endpoints if end.address.version == version]
    if all(network.version == version for network in networks.values()):
        yield from _equal_vteps(spec, networks, of_version)
    used: list[AnyAddress | AnyNetwork] = [endpoint.address for _, endpoint in endpoints]
    used += [subnet for _, subnet in subnets]
    for name, network in networks.items():
        for value in used:
            if _contains(network, value):
                yield Problem(
                    ("vtep", name),
                    f"'{network}' contains {value}; use a network without gateways and subnets",
                )
    if underlay := networks.get("underlay"):
        yield from _underlay(networks["network"], underlay)


def _underlay(vteps: AnyNetwork, underlay: AnyNetwork) -> Iterator[Problem]:
    """Find an underlay that isn't as large as the VTEPs' network, beside it."""
    if _overlap(vteps, underlay):
        yield Problem(
            ("vtep", "underlay"),
            f"'{underlay}' overlaps vtep.network, {vteps}; use networks that don't overlap",
        )
    elif vteps.prefixlen != underlay.prefixlen:
        yield Problem(
            ("vtep", "underlay"),
            f"'{underlay}' isn't as large as vtep.network, {vteps}; use a network with the prefix"
            f" length {vteps.prefixlen}",
        )


def _equal_vteps(
    spec: Spec, networks: dict[str, AnyNetwork], endpoints: Endpoints
) -> Iterator[Problem]:
    """Find gateways whose addresses on the overlay, or MACs, are equal."""
    tunnel = spec.mode is Mode.TUNNEL
    same = twins_of(end for _, end in endpoints) if tunnel else {}
    owners: dict[object, tuple[int, Endpoint]] = {}
    for i, endpoint in endpoints:
        bits = host_bits(endpoint, same)
        addresses = [vtep(bits, network).ip for network in networks.values()]
        gateway = addresses[-1] if tunnel else endpoint.address
        for identifier in (*addresses, mac_of(gateway)):
            j, owner = owners.setdefault(identifier, (i, endpoint))
            if owner.address != endpoint.address or (owner is not endpoint and same):
                network = spec.vtep_network(endpoint.address.version)
                remedy = (
                    "give one of them another cluster name"
                    if endpoint.cluster in same
                    else f"use addresses that differ after the first {network.prefixlen} bits, or"
                    " another vtep.network"
                )
                yield Problem(
                    ("endpoints", i, "address"),
                    f"{endpoint.address} and {owner.address} of endpoints[{j}] give the same VTEP,"
                    f" {vtep(host_bits(owner, same), network).ip}; {remedy}",
                )
                break


def _contains(network: AnyNetwork, value: AnyAddress | AnyNetwork) -> bool:
    if network.version != value.version:
        return False
    if hasattr(value, "network_address"):
        return network.overlaps(value)  # type: ignore[arg-type]
    return value in network
