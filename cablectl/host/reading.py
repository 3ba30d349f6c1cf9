"""Facts of cables on this host, read by `subprocess` and from files; nothing is changed.

Tools print JSON if they can; the pure rooms parse the text of pluto and `ip xfrm`.
"""

import shutil
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts import partition
from cablectl.facts.earlier_gateways import cable_to
from cablectl.facts.host_facts import Algorithms, Facts, OverlayFacts, Pluto
from cablectl.host import (
    certificates,
    credentials,
    daemon,
    devices,
    ipsec_state,
    kernel,
    privilege,
)
from cablectl.host.paths import ways
from cablectl.libreswan import dialects, secrets_file
from cablectl.libreswan.dialects import Version
from cablectl.linux import esp_offload, guard, guard_file, mss, watch_file
from cablectl.model.cable import Cable

ASSUMED_PATH_MTU = 1500  # bytes, Ethernet's (RFC 894)


def dry_facts_of(cables: tuple[Cable, ...], version: Version | None) -> tuple[Facts, ...]:
    """Return the facts of a host that has no part of the cables, and on which pluto runs.

    Only what decides the commands' arguments is read, as far as that needs no root.
    """
    first = cables[0]
    assumed, algorithms = ["pluto is running"] if first.connections else [], Algorithms()
    if version is None:
        try:
            version = daemon.libreswan_version()
            algorithms = daemon.algorithms_of(first)
        except HostNotReadyError:
            version = dialects.LATEST
            assumed.append(f"Libreswan {version}, since none is installed here")
    way_to = ways(first.local.address, (cable.remote_host for cable in cables))
    if first.overlay and not all(cable.remote_host in way_to for cable in cables):
        reason = (
            "for peers that have no route here"
            if way_to
            else f"since this host isn't {first.local.cluster}"
        )
        assumed.append(f"a path MTU of {ASSUMED_PATH_MTU} bytes, {reason}")
    *modules, last = esp_offload.modules(first.local.address.version)
    if not way_to or kernel.can_load(last):
        modules.append(last)
    whole = Facts(
        libreswan=version,
        to_load=tuple(modules),
        source=devices.source_address(first, devices.addresses()) if way_to else "",
        leaves_with=devices.leaves_with(first) if way_to else "",
        fips=kernel.in_fips_mode(),
        algorithms=algorithms,
        assumed=tuple(assumed),
    )
    nic_of = cache(kernel.nic)
    return tuple(
        replace(whole, path_mtu=way.mtu, nic=nic_of(way.device) if first.connections else None)
        if (way := way_to.get(cable.remote_host))
        else replace(whole, path_mtu=ASSUMED_PATH_MTU)
        for cable in cables
    )


def facts_of(cables: tuple[Cable, ...]) -> tuple[Facts, ...]:
    """Return the facts of each cable; HostNotReadyError if they can't be read.

    The cables are of one file and one local end: what they share is read once.
    """
    privilege.refuse_others_than_root()
    first = cables[0]
    version = daemon.libreswan_version() if first.connections else dialects.LATEST
    way_to = ways(first.local.address, (cable.remote_host for cable in cables))
    links = devices.links()
    addresses = devices.addresses_of(links)
    holds_address = str(first.local.address) in addresses
    whole = Facts(
        libreswan=version,
        held=addresses,
        holds_address=holds_address,
        instead="" if holds_address else devices.source_towards(first.remote_host),
        source=devices.source_address(first, addresses),
        leaves_with=devices.leaves_with(first) if first.remote_host in way_to else "",
        overlay=(
            devices.overlay_facts(first, first.overlay, links) if first.overlay else OverlayFacts()
        ),
    )
    if first.connections:
        whole = _with_ipsec(first, whole)
    nic_of, found = cache(kernel.nic), []
    parts = partition.of_each(cables, whole, daemon.marked_cables())
    for cable, of_cable in zip(cables, parts, strict=True):
        part = replace(of_cable, watched=Path(watch_file.path(cable)).exists())
        way = way_to.get(cable.remote_host)
        found.append(
            replace(part, path_mtu=way.mtu, device=way.device, nic=nic_of(way.device))
            if way
            else _without_way(cable, part)
        )
    if first.connections:
        found = [*_with_key_and_guard(cables, found)]
    return tuple(_with_clamp(cables, found))


def facts(cable: Cable) -> Facts:
    """Return the facts of one cable."""
    (found,) = facts_of((cable,))
    return found


def _without_way(cable: Cable, facts: Facts) -> Facts:
    local, remote = cable.local.address, cable.remote_host
    problem = (f"no route from {local} to {remote}", f"ip route get {remote} from {local}")
    if not facts.holds_address:  # the plan refuses the cable for that
        return replace(facts, path_mtu=ASSUMED_PATH_MTU)
    return replace(facts, path_mtu=ASSUMED_PATH_MTU, not_ready=(problem, *facts.not_ready))


def _with_key_and_guard(cables: tuple[Cable, ...], found: list[Facts]) -> Iterator[Facts]:
    guards, credential_of = ipsec_state.guards_of(cables), credentials.finder(cables[0].ipsec.auth)
    for cable, facts in zip(cables, found, strict=True):
        secrets = credential_of(cable)
        yield replace(
            _with_former_tables(cable, facts),
            guard=guards.get(guard.name(cable)),
            guard_watched=Path(guard_file.path(cable)).exists(),
            credential=secrets.held,
            not_ready=(*facts.not_ready, *secrets.problems),
            warnings=secrets.warnings,
            expiries=secrets.expiries if isinstance(secrets, certificates.Found) else (),
        )


def _with_clamp(cables: tuple[Cable, ...], found: list[Facts]) -> Iterator[Facts]:
    """Add the tables that limit TCP's segments, and what is missing for them."""
    first = cables[0]
    tables = ipsec_state.clamps_of(cables) if first.carries_subnets else {}
    nft_is_missing = not shutil.which("nft")
    for cable, facts in zip(cables, found, strict=True):
        not_ready = facts.not_ready
        if nft_is_missing and mss.is_wanted(cable) and not cable.guarded:
            hint = "on Debian: apt install nftables; or set mss: off in the file"
            not_ready += (("nft is not installed, and mss needs it", hint),)
        yield replace(facts, mss=tables.get(mss.name(cable)), not_ready=not_ready)


def _with_former_tables(cable: Cable, facts: Facts) -> Facts:
    """Add the nftables tables of former cables; drop earlier gateways without a trace of the cable.

    Without a connection, only a guard for the same traffic shows that the cable isn't another
    file's.
    """
    if not (facts.former or facts.earlier):
        return facts
    kept = tuple(
        gateway
        for gateway in facts.earlier
        if gateway.connections or ipsec_state.is_guarded(cable_to(cable, gateway.address))
    )
    ids = {*facts.former.values(), *(gateway.id for gateway in kept)}
    tables = () if cable.shares_device else ipsec_state.tables_of(sorted(ids))
    return replace(facts, earlier=kept, former_tables=tables)


def _with_ipsec(cable: Cable, plain: Facts) -> Facts:
    not_ready = [*_not_ready(cable)]
    if cable.guarded and not shutil.which("nft"):
        both = " and mss: off" if mss.is_wanted(cable) else ""
        hint = f"on Debian: apt install nftables; or set guard: false{both} in the file"
        not_ready.append(("nft is not installed, and the guard needs it", hint))
    status = daemon.pluto_status()
    policies, sas = ipsec_state.xfrm_state()
    return replace(
        plain,
        pluto=Pluto.RUNNING if status else daemon.startable(),
        to_load=kernel.to_load(esp_offload.modules(cable.local.address.version)),
        fips=kernel.in_fips_mode(),
        service_port=daemon.service_port(),
        algorithms=daemon.algorithms_of(cable),
        connections=status.connections if status else {},
        shunts=status.shunts if status else (),
        policies=policies,
        sas=sas,
        not_ready=tuple(not_ready),
    )


def _not_ready(cable: Cable) -> Iterator[tuple[str, str]]:
    _, module, _ = esp_offload.modules(cable.local.address.version)
    if not kernel.has_esp(module):
        option = "CONFIG_INET_ESP" if module == "esp4" else "CONFIG_INET6_ESP"
        yield (f"this kernel has no ESP (module {module})", f"boot a kernel that has {option}")
    included = f"include {secrets_file.DIRECTORY}/*.secrets"
    try:
        lines = (
            Path(secrets_file.MAIN_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
        )
    except OSError:
        lines = []
    if included not in (" ".join(line.split()) for line in lines):
        yield (
            f"{secrets_file.MAIN_FILE} doesn't include cablectl's secrets files",
            f"add this line to {secrets_file.MAIN_FILE}: {included}",
        )
