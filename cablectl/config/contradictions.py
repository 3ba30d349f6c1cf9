"""Problems between fields, each with its reason and a correction.

A field with a problem of its own is None here.
"""

from collections import Counter
from collections.abc import Iterator

from cablectl.config import address_conflicts, authentication_conflicts
from cablectl.config.address_conflicts import Endpoints
from cablectl.config.reader import Path, Problem
from cablectl.config.spec import Spec
from cablectl.config.values import field
from cablectl.linux.esp_offload import NEEDED
from cablectl.model.wishes import (
    KERNEL_TABLES,
    OVERLAYS,
    PLUTO_PORTS,
    Encapsulation,
    Esn,
    Initiate,
    Ipsec,
    Mode,
    Offload,
    OverlayKind,
)

# Of one gateway in tunnel mode, where pluto takes 13 KiB and up to 8 ms for each (docs/mesh.md).
MAX_CONNECTIONS = 10_000
NIC_REPLAY_WINDOWS = (32, 64, 128, 256)  # with which Libreswan 5 offloads whole packets


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
    yield from authentication_conflicts.conflicts(spec, ipsec)
    yield from _ciphers(ipsec)
    yield from _replay_window(ipsec)
    if spec.endpoints is None:
        return
    present = [(i, end) for i, end in enumerate(spec.endpoints) if end is not None]
    yield from _number(spec, len(spec.endpoints))
    addressed = [(i, end) for i, end in present if end.address]
    yield from address_conflicts.conflicts(spec, present)
    yield from _roles(spec, ipsec, addressed)
    yield from _ports(spec, ipsec, present)
    yield from _connections(spec, present)
    yield from _subnets_for_the_mode(spec, addressed)


def _mode(spec: Spec) -> Iterator[Problem]:
    """Find fields that the mode doesn't support, and fields without effect."""
    overlay = spec.overlay
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
    if isinstance(spec.mss, int) and spec.mode is Mode.TRANSPORT and overlay is OverlayKind.NONE:
        yield Problem(
            ("mss",), "mss has no effect without subnets; remove it, or choose an overlay"
        )
    for kind in OVERLAYS:
        if getattr(spec, kind) and overlay is not kind:
            why = f"with overlay: {overlay}" if overlay else "without an overlay"
            yield Problem(
                (kind.value,), f"{kind} has no effect {why}; remove it, or write overlay: {kind}"
            )
    if spec.vtep and not spec.device:
        yield Problem(("vtep",), "vtep has no effect without an overlay; remove it")
    elif spec.vtep and spec.vtep.underlay and spec.mode is not Mode.TUNNEL:
        yield Problem(
            ("vtep", "underlay"), f"underlay has no effect in mode {spec.mode}; remove it"
        )
    if spec.routes and not spec.device:
        yield Problem(("routes",), "routes has no effect without an overlay; remove it")
    if spec.routes and spec.routes.table in KERNEL_TABLES:
        yield Problem(
            ("routes", "table"),
            f"'{spec.routes.table}' is one of the kernel's own tables; allowed: 1 to 4294967295"
            " without 253 to 255",
        )


def _ciphers(ipsec: Ipsec) -> Iterator[Problem]:
    """Find algorithms that only authenticate (RFC 2410, RFC 4543)."""
    for name, algorithms, example in (
        ("ike", ipsec.ike, "a proposal that encrypts, such as aes256-sha2_256;dh19"),
        ("esp", ipsec.esp, "an algorithm that encrypts, such as aes_gcm-null"),
    ):
        for i, algorithm in enumerate(algorithms or ()):
            cipher = (algorithm or "").partition("-")[0]
            if "null" in cipher or "gmac" in cipher:
                yield Problem(
                    ("ipsec", name, i), f"'{algorithm}' doesn't encrypt; allowed: {example}"
                )


def _replay_window(ipsec: Ipsec) -> Iterator[Problem]:
    """Find replay windows that Libreswan or a NIC doesn't take with another field."""
    window = ipsec.replay_window
    if window == 0 and ipsec.esn is Esn.YES:
        yield Problem(
            ("ipsec", "replay_window"),
            "'0' is not allowed with esn: yes, since ESN needs a replay window; allowed:"
            " packets, 1 to 4096, or esn: auto",
        )
    if window is not None and ipsec.offload is Offload.PACKET and window not in NIC_REPLAY_WINDOWS:
        yield Problem(
            ("ipsec", "replay_window"),
            f"'{window}' is not allowed with offload: packet; allowed:"
            f" {', '.join(map(str, NIC_REPLAY_WINDOWS))}",
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


def _roles(spec: Spec, ipsec: Ipsec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find conflicts between NAT, a preferred server, encapsulation and offload."""
    # A gateway behind NAT reaches those of its own site without NAT.
    sites = Counter(end.site for _, end in endpoints if end.site)
    natted = [
        ("endpoints", i, "public_address")
        for i, end in endpoints
        if end.behind_nat and (end.site is None or sites[end.site] < len(endpoints))
    ]
    servers = [("endpoints", i, "preferred_server") for i, end in endpoints if end.preferred_server]
    if natted and spec.mode in (Mode.TRANSPORT, Mode.NONE):
        reasons = {
            Mode.TRANSPORT: "Libreswan doesn't negotiate transport mode through NAT",
            Mode.NONE: "VXLAN in clear text doesn't pass NAT",
        }
        yield Problem(
            natted[0],
            f"not allowed in mode {spec.mode}: {reasons[spec.mode]};"
            f" remove it, or write mode: tunnel{' and keep the overlay' if spec.device else ''}",
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


def _ports(spec: Spec, ipsec: Ipsec, endpoints: Endpoints) -> Iterator[Problem]:
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


def _connections(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find the gateway with the most connections, if pluto would need minutes to load them."""
    if spec.mode is not Mode.TUNNEL or spec.device or not endpoints:
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


def _subnets_for_the_mode(spec: Spec, endpoints: Endpoints) -> Iterator[Problem]:
    """Find endpoints without a subnet to tunnel, and subnets that the cable can't carry."""
    if spec.mode is Mode.TUNNEL and not spec.device:
        for i, endpoint in endpoints:
            known = endpoint.subnets is not None and None not in endpoint.subnets
            if known and not endpoint.networks:
                yield Problem(
                    ("endpoints", i, "subnets"),
                    "mode tunnel carries only subnets; add a subnet besides the gateway's own"
                    " address, or write mode: transport",
                )
    subnets = address_conflicts.subnets_of(endpoints)
    if spec.mode is Mode.TRANSPORT and spec.overlay is OverlayKind.NONE and subnets:
        yield Problem(
            subnets[0][0],
            "mode transport without an overlay carries only the hosts' own traffic; remove the"
            f" subnets, choose an overlay ({', '.join(OVERLAYS)}), or write mode: tunnel",
        )
