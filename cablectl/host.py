"""Facts from this host: every probe is a read, by `subprocess`, and changes nothing.

JSON where the tool offers it; what pluto and `ip xfrm` print is parsed in the pure rooms.
"""

import os
import shutil
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

from msgspec.structs import replace

from cablectl import guard, kernel, keys, libreswan, offload, pluto, probe, secret, xfrm
from cablectl.cable import Cable, Connection
from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts import Facts, Link, OverlayFacts, Pluto
from cablectl.libreswan import Version
from cablectl.model import AnyAddress, Encapsulation, Geneve, Offload, Overlay
from cablectl.overlay import network
from cablectl.xfrm import Policy, SecurityAssociation

ASSUMED_PATH_MTU = 1500  # bytes, Ethernet's (RFC 894)


def addresses() -> frozenset[str]:
    """Return the addresses that this host holds."""
    return frozenset(
        each["local"]
        for link in probe.json("ip", "-j", "address", "show")
        for each in link.get("addr_info", ())
        if "local" in each
    )


class Way(NamedTuple):
    """The way to a peer: what passes in one piece, in bytes, and the device that it begins with."""

    mtu: int
    device: str


def way(local: AnyAddress, remote: AnyAddress) -> Way | None:
    """Return what the route to the peer leads through; None if this isn't the local end."""
    try:
        routes = probe.json("ip", "-j", "route", "get", str(remote), "from", str(local))
    except HostNotReadyError:
        return None
    if not routes:
        return None
    told = [metric["mtu"] for metric in routes[0].get("metrics", ()) if "mtu" in metric]
    device = routes[0]["dev"]
    links = probe.json("ip", "-j", "link", "show", "dev", device)
    return Way(min([*told, *(link["mtu"] for link in links)]), device)


def _leaves_with(cable: Cable) -> str:
    """Return the source that the kernel gives to packets of a device that can't be told its own."""
    if not isinstance(cable.overlay, Geneve):
        return ""
    (route,) = probe.json("ip", "-j", "route", "get", str(cable.remote_host))
    return str(route.get("prefsrc", ""))


def _source(cable: Cable) -> str:
    """Return the address that this host has in its own cluster's subnets, if it has one."""
    held = (ip_address(each) for each in addresses())
    ours = (each for each in held for subnet in cable.local.networks if each in subnet)
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


def dry_facts(cable: Cable, version: Version | None) -> Facts:
    """Return the facts of a host with nothing of the cable on it, and pluto running.

    Only what decides the commands' arguments is read, where it can be without being root.
    """
    assumed, unknown = ["pluto is running"] if cable.connections else [], ""
    if version is None:
        try:
            version = libreswan_version()
            _, unknown = _algorithms(cable)
        except HostNotReadyError:
            version = libreswan.LATEST
            assumed.append(f"Libreswan {version}, since none is installed here")
    path = way(cable.local.address, cable.remote_host)
    if path is None and cable.overlay:
        assumed.append(
            f"a path MTU of {ASSUMED_PATH_MTU} bytes, since this host isn't {cable.local.cluster}"
        )
    *modules, last = offload.modules(cable.local.address.version)
    if not path or kernel.can_load(last):
        modules.append(last)
    return Facts(
        libreswan=version,
        path_mtu=path.mtu if path else ASSUMED_PATH_MTU,
        nic=kernel.nic(path.device) if path and cable.connections else None,
        to_load=tuple(modules),
        source=_source(cable) if path else "",
        leaves_with=_leaves_with(cable) if path else "",
        unknown_algorithms=unknown,
        assumed=tuple(assumed),
    )


def facts(cable: Cable) -> Facts:
    """Return what this host has of the cable; HostNotReadyError where that can't be read."""
    refuse_others_than_root()
    version = libreswan_version() if cable.connections else libreswan.LATEST
    path, not_ready = way(cable.local.address, cable.remote_host), []
    if path is None:
        local, remote = cable.local.address, cable.remote_host
        not_ready.append((f"no route from {local} to {remote}", "is it this host's address?"))
    plain = Facts(
        libreswan=version,
        path_mtu=path.mtu if path else ASSUMED_PATH_MTU,
        nic=kernel.nic(path.device) if path else None,
        source=_source(cable),
        leaves_with=_leaves_with(cable) if path else "",
        overlay=_overlay(cable, cable.overlay) if cable.overlay else OverlayFacts(),
        not_ready=tuple(not_ready),
    )
    return _with_ipsec(cable, plain) if cable.connections else plain


def offload_of(cable: Cable) -> offload.Report:
    """Return what of the cable's ESP the NIC does."""
    refuse_others_than_root()
    return _offload(
        cable.remote.cable_name,
        cable.connections,
        way(cable.local.address, cable.remote_host),
        asked=cable.ipsec.offload,
        encapsulation=cable.encapsulation,
    )


def offload_of_all() -> list[offload.Report]:
    """Return the same of every cable that pluto has; HostNotReadyError without pluto."""
    refuse_others_than_root()
    status = pluto_status()
    if status is None:
        raise HostNotReadyError(
            "pluto isn't running, so this host's cables can't be told",
            hint="start it, or name the cable's file",
        )
    reports = []
    for name, connections in pluto.cables(status.connections).items():
        local, remote = connections[0].local.host, connections[0].remote.host
        path = way(local, remote) if local and remote else None
        reports.append(_offload(name, connections, path))
    return reports


def _offload(
    name: str,
    connections: tuple[Connection, ...],
    path: Way | None,
    asked: Offload | None = None,
    encapsulation: Encapsulation | None = None,
) -> offload.Report:
    policies, sas = _xfrm()
    version = connections[0].local.network.version if connections else 4
    module = offload.modules(version)[-1]
    return offload.Report(
        cable=name,
        asked=asked,
        encapsulation=encapsulation,
        nic=kernel.nic(path.device) if path else None,
        module=module,
        loaded=kernel.has_module(module),
        sas=xfrm.sas_of(connections, policies, sas),
    )


def sas_of(cable: Cable) -> tuple[SecurityAssociation, ...]:
    """Return the cable's SAs, with what they carried so far."""
    return xfrm.sas_of(cable.connections, *_xfrm())


def guard_of(cable: Cable) -> guard.Guard | None:
    """Return the cable's nftables table, with what it dropped so far; None if there is none."""
    listing = probe.if_any("nft", "-j", "list", "table", *guard.name(cable).split())
    return guard.parse(probe.decoded(listing)) if listing else None


def _xfrm() -> tuple[dict[Policy, int], tuple[SecurityAssociation, ...]]:
    policies = xfrm.parse_policies(probe.output("ip", "xfrm", "policy"))
    # -d: with what a NIC does of it; -s: what it carried; nokeys: without what nobody may see.
    listed = probe.output("ip", "-s", "-d", "xfrm", "state", "list", "nokeys")
    return policies, xfrm.parse_sas(listed)


def refuse_others_than_root() -> None:
    """Raise HostNotReadyError for whoever isn't root."""
    if os.geteuid() != 0:
        raise HostNotReadyError("only root may see and change a cable", hint="the same with sudo")


def _with_ipsec(cable: Cable, plain: Facts) -> Facts:
    key = keys.find(cable)
    not_ready = [*plain.not_ready, *_not_ready(cable), *key.problems]
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
        guard=guard_of(cable),
        service_port=service_port(),
        algorithms=algorithms,
        unknown_algorithms=unknown,
        secret=key.held,
        connections=status.connections if status else {},
        shunts=status.shunts if status else (),
        policies=policies,
        sas=sas,
        not_ready=tuple(not_ready),
        warnings=key.warnings,
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
    # -N: no names of tables and groups.
    links = probe.json("ip", "-N", "-d", "-j", "address")
    found = [link for link in links if link.get("ifname") == device]
    rule = _has_rule(family)
    if not found:
        return OverlayFacts(rule=rule)
    # A table that doesn't exist is an error of its own; "all" is none.
    ours = ("table", "all", "proto", network.PROTOCOL, "dev", device)
    whole = f"/{cable.local_vtep.max_prefixlen}"
    return OverlayFacts(
        link=link_of(found[0]),
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


def link_of(link: dict[str, Any]) -> Link:
    """Return a device as `ip -N -d -j address` lists it."""
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
