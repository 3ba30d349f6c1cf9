"""Facts from this host: every probe is a read, by `subprocess`, and changes nothing.

JSON where the tool offers it; what pluto and `ip xfrm` print is parsed in the pure rooms.
"""

import os
import shutil
from collections.abc import Iterator
from functools import cache
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cablectl import guard, kernel, keys, libreswan, offload, pluto, probe, secret, shares, xfrm
from cablectl.cable import Cable, Connection
from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts import Facts, Link, OverlayFacts, Pluto
from cablectl.libreswan import Version
from cablectl.model import Encapsulation, Geneve, Offload, Overlay
from cablectl.overlay import network
from cablectl.paths import ways
from cablectl.xfrm import Policy, SecurityAssociation

Xfrm = tuple[dict[Policy, int], tuple[SecurityAssociation, ...]]

ASSUMED_PATH_MTU = 1500  # bytes, Ethernet's (RFC 894)


def addresses() -> frozenset[str]:
    """Return the addresses that this host holds."""
    return frozenset(
        each["local"]
        for link in probe.json("ip", "-j", "address", "show")
        for each in link.get("addr_info", ())
        if "local" in each
    )


def _leaves_with(cable: Cable) -> str:
    """Return the source that the kernel gives to packets of a device that can't be told its own."""
    if not isinstance(cable.overlay, Geneve):
        return ""
    (route,) = probe.json("ip", "-j", "route", "get", str(cable.remote_host))
    return str(route.get("prefsrc", ""))


def _source(cable: Cable, held: frozenset[str]) -> str:
    """Return which address that this host holds is in its own cluster's subnets, if one is."""
    parsed = map(ip_address, held)
    ours = (each for each in parsed for subnet in cable.local.networks if each in subnet)
    return str(min(ours, key=int, default=""))


def libreswan_version() -> Version:
    """Return the release that is installed; HostNotReadyError if there is none that will do."""
    told = probe.output("ipsec", "--version")
    try:
        return libreswan.parse_version(told)
    except UsageError as error:  # such as strongSwan, whose command has the same name
        raise HostNotReadyError(error.message, hint="on Debian: apt install libreswan") from None


def established() -> frozenset[str]:
    """Return the names of the connections that have a Child SA."""
    return pluto.parse_established(probe.output(*libreswan.TRAFFIC_STATUS))


def forces_encapsulation() -> bool:
    """Tell whether the variable of Submariner's driver asks for ESP in UDP."""
    return os.environ.get("CE_IPSEC_FORCEENCAPS", "").lower() in ("1", "t", "true")


def dry_facts_of(cables: tuple[Cable, ...], version: Version | None) -> tuple[Facts, ...]:
    """Return the facts of a host with nothing of the cables on it, and pluto running.

    Only what decides the commands' arguments is read, where it can be without being root.
    """
    first = cables[0]
    assumed, unknown = ["pluto is running"] if first.connections else [], ""
    if version is None:
        try:
            version = libreswan_version()
            _, unknown = _algorithms(first)
        except HostNotReadyError:
            version = libreswan.LATEST
            assumed.append(f"Libreswan {version}, since none is installed here")
    there = ways(first.local.address, (each.remote_host for each in cables))
    if first.overlay and not all(each.remote_host in there for each in cables):
        why = "have no route here" if there else f"since this host isn't {first.local.cluster}"
        which = "for peers that " if there else ""
        assumed.append(f"a path MTU of {ASSUMED_PATH_MTU} bytes, {which}{why}")
    *modules, last = offload.modules(first.local.address.version)
    if not there or kernel.can_load(last):
        modules.append(last)
    whole = Facts(
        libreswan=version,
        to_load=tuple(modules),
        source=_source(first, addresses()) if there else "",
        leaves_with=_leaves_with(first) if there else "",
        unknown_algorithms=unknown,
        assumed=tuple(assumed),
    )
    nic_of = cache(kernel.nic)
    found = (there.get(each.remote_host) for each in cables)
    return tuple(
        replace(whole, path_mtu=way.mtu, nic=nic_of(way.device) if first.connections else None)
        if way
        else replace(whole, path_mtu=ASSUMED_PATH_MTU)
        for way in found
    )


def facts_of(cables: tuple[Cable, ...]) -> tuple[Facts, ...]:
    """Return what this host has of each cable; HostNotReadyError where that can't be read.

    They are of one file and one local end: whatever they share is read once.
    """
    refuse_others_than_root()
    first = cables[0]
    version = libreswan_version() if first.connections else libreswan.LATEST
    there = ways(first.local.address, (each.remote_host for each in cables))
    whole = Facts(
        libreswan=version,
        source=_source(first, addresses()),
        leaves_with=_leaves_with(first) if first.remote_host in there else "",
        overlay=_overlay(first, first.overlay) if first.overlay else OverlayFacts(),
    )
    if first.connections:
        whole = _with_ipsec(first, whole)
    nic_of, found = cache(kernel.nic), []
    for cable, its_own in zip(cables, shares.of_each(cables, whole, secrets()), strict=True):
        way = there.get(cable.remote_host)
        found.append(
            replace(its_own, path_mtu=way.mtu, nic=nic_of(way.device))
            if way
            else _without_way(cable, its_own)
        )
    return tuple(_with_key_and_guard(cables, found)) if first.connections else tuple(found)


def facts(cable: Cable) -> Facts:
    """Return the same of one cable."""
    (found,) = facts_of((cable,))
    return found


def _without_way(cable: Cable, its_own: Facts) -> Facts:
    what = f"no route from {cable.local.address} to {cable.remote_host}"
    problem = (what, "is it this host's address?")
    return replace(its_own, path_mtu=ASSUMED_PATH_MTU, not_ready=(problem, *its_own.not_ready))


def _with_key_and_guard(cables: tuple[Cable, ...], found: list[Facts]) -> Iterator[Facts]:
    key, guards = keys.read(cables[0].ipsec.psk), _guards(cables)
    for cable, its_own in zip(cables, found, strict=True):
        its_key = keys.find_in(cable, key)
        yield replace(
            its_own,
            guard=guards.get(guard.name(cable)),
            secret=its_key.held,
            not_ready=(*its_own.not_ready, *its_key.problems),
            warnings=its_key.warnings,
        )


def offload_of(cables: tuple[Cable, ...]) -> list[offload.Report]:
    """Return what of the cables' ESP the NIC does."""
    refuse_others_than_root()
    there = ways(cables[0].local.address, (each.remote_host for each in cables))
    nic_of, xfrm_of_all = cache(kernel.nic), _xfrm()
    return [
        _offload(
            cable.remote.cable_name,
            cable.connections,
            nic_of(way.device) if (way := there.get(cable.remote_host)) else None,
            xfrm_of_all,
            asked=cable.ipsec.offload,
            encapsulation=cable.encapsulation,
        )
        for cable in cables
    ]


def offload_of_all() -> list[offload.Report]:
    """Return the same of every cable that pluto has; HostNotReadyError without pluto."""
    refuse_others_than_root()
    status = pluto_status()
    if status is None:
        raise HostNotReadyError(
            "pluto isn't running, so this host's cables can't be told",
            hint="start it, or name the cable's file",
        )
    found = pluto.cables(status.connections)
    ends = {name: (its[0].local.host, its[0].remote.host) for name, its in found.items()}
    ways_from = {
        local: ways(local, [theirs for ours, theirs in ends.values() if ours == local and theirs])
        for local in {ours for ours, _ in ends.values() if ours}
    }
    reports, nic_of, xfrm_of_all = [], cache(kernel.nic), _xfrm()
    for name, connections in found.items():
        local, remote = ends[name]
        way = ways_from[local].get(remote) if local and remote else None
        nic = nic_of(way.device) if way else None
        reports.append(_offload(name, connections, nic, xfrm_of_all))
    return reports


def _offload(
    name: str,
    connections: tuple[Connection, ...],
    nic: offload.Nic | None,
    xfrm_of_all: Xfrm,
    asked: Offload | None = None,
    encapsulation: Encapsulation | None = None,
) -> offload.Report:
    version = connections[0].local.network.version if connections else 4
    module = offload.modules(version)[-1]
    return offload.Report(
        cable=name,
        asked=asked,
        encapsulation=encapsulation,
        nic=nic,
        module=module,
        loaded=kernel.has_module(module),
        sas=xfrm.sas_of(connections, *xfrm_of_all),
    )


def sas_of(cable: Cable) -> tuple[SecurityAssociation, ...]:
    """Return the cable's SAs, with what they carried so far."""
    return xfrm.sas_of(cable.connections, *_xfrm())


def guard_of(cable: Cable) -> guard.Guard | None:
    """Return the cable's nftables table, with what it dropped so far; None if there is none."""
    listing = probe.if_any("nft", "-j", "list", "table", *guard.name(cable).split())
    return guard.parse(probe.decoded(listing)) if listing else None


def _guards(cables: tuple[Cable, ...]) -> dict[str, guard.Guard]:
    """Return the nftables tables of the cables that are there, by name."""
    names = {guard.name(each) for each in cables}
    if len(names) == 1:
        there = guard_of(cables[0])
        return {guard.name(cables[0]): there} if there else {}
    listing = probe.if_any("nft", "-j", "list", "ruleset", guard.FAMILY)
    tables = guard.parse_tables(probe.decoded(listing)) if listing else {}
    return {name: tables[name] for name in names & tables.keys()}


def secrets() -> frozenset[str]:
    """Return what tells the cables apart whose secrets files are there."""
    try:
        return secret.ids(file.name for file in Path(secret.DIRECTORY).iterdir())
    except OSError:
        return frozenset()


def _xfrm() -> Xfrm:
    policies = xfrm.parse_policies(probe.output("ip", "xfrm", "policy"))
    # -d: with what a NIC does of it; -s: what it carried; nokeys: without what nobody may see.
    listed = probe.output("ip", "-s", "-d", "xfrm", "state", "list", "nokeys")
    return policies, xfrm.parse_sas(listed)


def refuse_others_than_root() -> None:
    """Raise HostNotReadyError for whoever isn't root."""
    if os.geteuid() != 0:
        raise HostNotReadyError("only root may see and change a cable", hint="the same with sudo")


def _with_ipsec(cable: Cable, plain: Facts) -> Facts:
    not_ready = [*_not_ready(cable)]
    if cable.guarded and not shutil.which("nft"):
        hint = "on Debian: apt install nftables; guard: false in the file does without"
        not_ready.append(("nft is not installed, and the guard needs it", hint))
    status = pluto_status()
    policies, sas = _xfrm()
    algorithms, unknown = _algorithms(cable)
    return replace(
        plain,
        pluto=Pluto.RUNNING if status else _startable(),
        to_load=kernel.to_load(offload.modules(cable.local.address.version)),
        service_port=service_port(),
        algorithms=algorithms,
        unknown_algorithms=unknown,
        connections=status.connections if status else {},
        shunts=status.shunts if status else (),
        policies=policies,
        sas=sas,
        not_ready=tuple(not_ready),
    )


def _algorithms(cable: Cable) -> tuple[tuple[str, ...] | None, str]:
    """Return the file's algorithms in Libreswan's own words, and what it says against them."""
    asked = libreswan.algorithms_to_parse(cable)
    if not asked:
        return (), ""
    told = probe.run("ipsec", "algparse", "-v2", "-pfs", asked)
    errors = [
        line for line in told.stdout.splitlines() + told.stderr.splitlines() if "ERROR" in line
    ]
    problem = errors[0].partition("ERROR: ")[2] if told.returncode and errors else ""
    return pluto.parse_algorithms(told.stdout) or None, problem


def pluto_status() -> pluto.Status | None:
    """Return what pluto has; None if it isn't running."""
    status = probe.run(*libreswan.STATUS)
    if status.returncode != 0:
        return None
    return pluto.parse(status.stdout, probe.output(*libreswan.TRAFFIC_STATUS))


def _startable() -> Pluto:
    booted = Path("/run/systemd/system").is_dir() and shutil.which("systemctl")  # sd_booted(3)
    if booted and probe.run("systemctl", "cat", "ipsec.service").returncode == 0:
        return Pluto.STARTABLE
    return Pluto.DOWN


def _not_ready(cable: Cable) -> Iterator[tuple[str, str]]:
    _, module, _ = offload.modules(cable.local.address.version)
    if not kernel.has_esp(module):
        option = "CONFIG_INET_ESP" if module == "esp4" else "CONFIG_INET6_ESP"
        yield (f"this kernel has no ESP (module {module})", f"boot a kernel that has {option}")
    included = f"include {secret.DIRECTORY}/*.secrets"
    try:
        lines = Path(secret.MAIN_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if included not in (" ".join(line.split()) for line in lines):
        yield (f"{secret.MAIN_FILE} doesn't include ours", f"add this line to it: {included}")


def service_port() -> int | None:
    """Return which UDP port the name vxlan stands for here, if any."""
    import socket  # 2 ms that no dry run needs

    try:
        return socket.getservbyname("vxlan", "udp")
    except OSError:
        return None


def _overlay(cable: Cable, wanted: Overlay) -> OverlayFacts:
    device, family = wanted.device, f"-{cable.local_vtep.version}"
    link, rule = links().get(device), _has_rule(family)
    if link is None:
        return OverlayFacts(rule=rule)
    # A table that doesn't exist is an error of its own; "all" is none.
    ours = ("table", "all", "proto", network.PROTOCOL, "dev", device)
    whole = f"/{cable.local_vtep.max_prefixlen}"
    return OverlayFacts(
        link=link,
        fdb=frozenset(
            (entry["mac"], entry["dst"])
            for entry in probe.json("bridge", "-j", "fdb", "show", "dev", device)
            if "dst" in entry
        ),
        neighbours=frozenset(
            (entry["dst"], entry["lladdr"])
            for entry in probe.json("ip", "-j", "neigh", "show", "dev", device, "nud", "permanent")
            if "lladdr" in entry
        ),
        routes=frozenset(
            (
                route["dst"] if "/" in route["dst"] else f"{route['dst']}{whole}",
                route["gateway"],
                route.get("prefsrc", ""),
            )
            for route in probe.json("ip", "-N", "-j", family, "route", "show", *ours)
            if "gateway" in route and route.get("table") == network.TABLE
        ),
        settings=frozenset((path, _setting(path)) for path, _ in network.settings(cable, wanted)),
        rule=rule,
    )


def links() -> dict[str, Link]:
    """Return all devices by name."""
    listed = probe.json("ip", "-N", "-d", "-j", "address")  # -N: no names of tables and groups
    return {link["ifname"]: _link(link) for link in listed if "ifname" in link}


def _link(link: dict[str, Any]) -> Link:
    info = link.get("linkinfo", {})
    return Link(
        kind=info.get("info_kind", ""),
        group=link.get("group", ""),
        mac=link.get("address", ""),
        mtu=link["mtu"],
        up="UP" in link["flags"],
        info=info.get("info_data", {}),
        addresses=frozenset(
            f"{each['local']}/{each['prefixlen']}" for each in link.get("addr_info", ())
        ),
    )


def _setting(path: str) -> str:
    try:
        return Path(path).read_text(encoding="ascii").strip()
    except OSError:  # such as a host without IPv6
        return ""


def _has_rule(family: str) -> bool:
    ours = {"table": network.TABLE, "protocol": network.PROTOCOL, "priority": int(network.PRIORITY)}
    return any(
        ours.items() <= rule.items() for rule in probe.json("ip", "-N", "-j", family, "rule")
    )
