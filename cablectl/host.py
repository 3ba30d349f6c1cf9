"""Facts from this host: every probe is a read, by `subprocess`, and changes nothing.

JSON where the tool offers it; what pluto and `ip xfrm` print is parsed in the pure rooms.
"""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from cablectl import keys, libreswan, pluto, secret, xfrm
from cablectl.cable import Cable
from cablectl.errors import HostNotReadyError, TimeLimitError, UsageError
from cablectl.facts import Facts, Link, OverlayFacts, Pluto
from cablectl.libreswan import Argv, Version
from cablectl.model import Geneve, Overlay
from cablectl.overlay import network
from cablectl.pluto import LoadedConnection

PROBE_LIMIT = 5  # seconds
ASSUMED_PATH_MTU = 1500  # bytes, Ethernet's (RFC 894)
_PACKAGES = {"ipsec": "libreswan", "ip": "iproute2", "bridge": "iproute2"}


def addresses() -> frozenset[str]:
    """Return the addresses that this host holds."""
    return frozenset(
        each["local"]
        for link in _json("ip", "-j", "address", "show")
        for each in link.get("addr_info", ())
        if "local" in each
    )


def path_mtu(cable: Cable) -> int | None:
    """Return the MTU in bytes of the route to the peer; None if this isn't the local end."""
    local, remote = str(cable.local.address), str(cable.remote_host)
    try:
        routes = _json("ip", "-j", "route", "get", remote, "from", local)
    except HostNotReadyError:
        return None
    if not routes:
        return None
    told = [metric["mtu"] for metric in routes[0].get("metrics", ()) if "mtu" in metric]
    links = _json("ip", "-j", "link", "show", "dev", routes[0]["dev"])
    return int(min([*told, *(link["mtu"] for link in links)]))


def _leaves_with(cable: Cable) -> str:
    """Return the source that the kernel gives to packets of a device that can't be told its own."""
    if not isinstance(cable.overlay, Geneve):
        return ""
    (route,) = _json("ip", "-j", "route", "get", str(cable.remote_host))
    return str(route.get("prefsrc", ""))


def _source(cable: Cable) -> str:
    """Return the address that this host has in its own cluster's subnets, if it has one."""
    if not cable.overlay:
        return ""
    held = (ip_address(each) for each in addresses())
    ours = (each for each in held for subnet in cable.local.networks if each in subnet)
    return str(min(ours, key=int, default=""))


def libreswan_version() -> Version:
    """Return the release that is installed; HostNotReadyError if there is none that will do."""
    told = _output("ipsec", "--version")
    try:
        return libreswan.parse_version(told)
    except UsageError as error:  # such as strongSwan, whose command has the same name
        raise HostNotReadyError(error.message, hint="on Debian: apt install libreswan") from None


def established() -> frozenset[str]:
    """Return the names of the connections that have a Child SA."""
    return pluto.parse_established(_output(*libreswan.TRAFFIC_STATUS))


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
            unknown = _unknown_algorithms(cable)
        except HostNotReadyError:
            version = libreswan.LATEST
            assumed.append(f"Libreswan {version}, since none is installed here")
    mtu = path_mtu(cable)
    if mtu is None and cable.overlay:
        assumed.append(
            f"a path MTU of {ASSUMED_PATH_MTU} bytes, since this host isn't {cable.local.cluster}"
        )
    return Facts(
        libreswan=version,
        path_mtu=mtu or ASSUMED_PATH_MTU,
        source=_source(cable) if mtu else "",
        leaves_with=_leaves_with(cable) if mtu else "",
        unknown_algorithms=unknown,
        assumed=tuple(assumed),
    )


def facts(cable: Cable) -> Facts:
    """Return what this host has of the cable; HostNotReadyError where that can't be read."""
    if os.geteuid() != 0:
        raise HostNotReadyError("only root may see and change a cable", hint="the same with sudo")
    version = libreswan_version() if cable.connections else libreswan.LATEST
    mtu, not_ready = path_mtu(cable), []
    if mtu is None:
        local, remote = cable.local.address, cable.remote_host
        not_ready.append((f"no route from {local} to {remote}", "is it this host's address?"))
    plain = Facts(
        libreswan=version,
        path_mtu=mtu or ASSUMED_PATH_MTU,
        source=_source(cable),
        leaves_with=_leaves_with(cable) if mtu else "",
        overlay=_overlay(cable, cable.overlay) if cable.overlay else OverlayFacts(),
        not_ready=tuple(not_ready),
    )
    return _with_ipsec(cable, plain) if cable.connections else plain


def _with_ipsec(cable: Cable, plain: Facts) -> Facts:
    key = keys.find(cable)
    connections = _connections()
    return replace(
        plain,
        pluto=_startable() if connections is None else Pluto.RUNNING,
        modules=_has_module("xfrm_user") and _has_module(_esp(cable)),
        service_port=_service_port(),
        unknown_algorithms=_unknown_algorithms(cable),
        secret=key.held,
        connections=connections or {},
        policies=xfrm.parse_policies(_output("ip", "xfrm", "policy")),
        sas=xfrm.parse_sas(_output("ip", "xfrm", "state", "list", "nokeys")),
        not_ready=(*plain.not_ready, *_not_ready(cable), *key.problems),
        warnings=key.warnings,
    )


def _unknown_algorithms(cable: Cable) -> str:
    """Return what Libreswan's own parser says against the file's algorithms, if anything."""
    asked = libreswan.algorithms_to_parse(cable)
    if not asked:
        return ""
    told = _run("ipsec", "algparse", "-v2", "-pfs", asked)
    errors = [
        line for line in told.stdout.splitlines() + told.stderr.splitlines() if "ERROR" in line
    ]
    return errors[0].partition("ERROR: ")[2] if told.returncode and errors else ""


def _connections() -> dict[str, LoadedConnection] | None:
    """Return what pluto has loaded; None if it isn't running."""
    status = _run(*libreswan.STATUS)
    if status.returncode != 0:
        return None
    return pluto.parse_connections(status.stdout, _output(*libreswan.TRAFFIC_STATUS))


def _startable() -> Pluto:
    booted = Path("/run/systemd/system").is_dir() and shutil.which("systemctl")  # sd_booted(3)
    if booted and _run("systemctl", "cat", "ipsec.service").returncode == 0:
        return Pluto.STARTABLE
    return Pluto.DOWN


def _esp(cable: Cable) -> str:
    return "esp4" if cable.local.address.version == 4 else "esp6"


def _not_ready(cable: Cable) -> Iterator[tuple[str, str]]:
    module = _esp(cable)
    if not _has_esp(module):
        option = "CONFIG_INET_ESP" if module == "esp4" else "CONFIG_INET6_ESP"
        yield (f"this kernel has no ESP (module {module})", f"boot a kernel that has {option}")
    included = f"include {secret.DIRECTORY}/*.secrets"
    try:
        lines = Path(secret.MAIN_FILE).read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    if included not in (" ".join(line.split()) for line in lines):
        yield (f"{secret.MAIN_FILE} doesn't include ours", f"add this line to it: {included}")


def _has_module(name: str) -> bool:
    """Tell whether the kernel has a module loaded or built in."""
    if Path("/sys/module", name).is_dir():
        return True
    builtin = Path("/lib/modules", os.uname().release, "modules.builtin")
    try:
        return f"/{name}.ko" in builtin.read_text(encoding="utf-8")
    except OSError:
        return False


def _has_esp(module: str) -> bool:
    """Tell whether ESP is there or can be loaded."""
    if _has_module(module):
        return True
    if shutil.which("modprobe") and _run("modprobe", "-n", "-q", module).returncode == 0:
        return True
    symbol = "esp_init_state" if module == "esp4" else "esp6_init_state"
    try:  # built in, on a host without /lib/modules, such as a container
        return re.search(rf"\b{symbol}\b", Path("/proc/kallsyms").read_text()) is not None
    except OSError:
        return False


def _service_port() -> int | None:
    import socket  # 2 ms that no dry run needs

    try:
        return socket.getservbyname("vxlan", "udp")
    except OSError:
        return None


def _overlay(cable: Cable, wanted: Overlay) -> OverlayFacts:
    device, family = wanted.device, f"-{cable.local_vtep.version}"
    # -N: no names of tables and groups.
    links = _json("ip", "-N", "-d", "-j", "address")
    found = [link for link in links if link.get("ifname") == device]
    rule = _has_rule(family)
    if not found:
        return OverlayFacts(rule=rule)
    # A table that doesn't exist is an error of its own; "all" is none.
    ours = ("table", "all", "proto", network.PROTOCOL, "dev", device)
    whole = f"/{cable.local_vtep.max_prefixlen}"
    return OverlayFacts(
        link=_link(found[0]),
        fdb=frozenset(
            (entry["mac"], entry["dst"])
            for entry in _json("bridge", "-j", "fdb", "show", "dev", device)
            if "dst" in entry
        ),
        neighbours=frozenset(
            (entry["dst"], entry["lladdr"])
            for entry in _json("ip", "-j", "neigh", "show", "dev", device, "nud", "permanent")
            if "lladdr" in entry
        ),
        routes=frozenset(
            (
                route["dst"] if "/" in route["dst"] else f"{route['dst']}{whole}",
                route["gateway"],
                route.get("prefsrc", ""),
            )
            for route in _json("ip", "-N", "-j", family, "route", "show", *ours)
            if "gateway" in route and route.get("table") == network.TABLE
        ),
        settings=frozenset((path, _setting(path)) for path, _ in network.settings(cable, wanted)),
        rule=rule,
    )


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
    return any(ours.items() <= rule.items() for rule in _json("ip", "-N", "-j", family, "rule"))


def _json(*argv: str) -> Any:  # noqa: ANN401 - what iproute2 prints
    told = _output(*argv)  # an error where a dry run isn't at home: no need to import anything
    import json

    return json.loads(told) if told else []


def _output(*argv: str) -> str:
    result = _run(*argv)
    if result.returncode != 0:
        raise HostNotReadyError(
            f"{argv[0]} failed with exit code {result.returncode}: {' '.join(argv)}",
            details=(result.stderr or result.stdout).splitlines(),
        )
    return result.stdout


def _run(*argv: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=PROBE_LIMIT,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        raise _not_installed(argv) from None
    except subprocess.TimeoutExpired:
        raise TimeLimitError(f"no answer in {PROBE_LIMIT} s from: {' '.join(argv)}") from None


def _not_installed(argv: Argv) -> HostNotReadyError:
    package = _PACKAGES.get(argv[0], argv[0])
    return HostNotReadyError(
        f"{argv[0]} is not installed", hint=f"on Debian: apt install {package}"
    )
