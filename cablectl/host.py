"""Facts from this host: every probe is a read, by `subprocess`, and changes nothing.

JSON where the tool offers it; what pluto and `ip xfrm` print is parsed in the pure rooms.
"""

import os
import re
import shutil
import stat
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cablectl import libreswan, secret, xfrm
from cablectl.errors import HostNotReadyError, TimeLimitError, UsageError
from cablectl.facts import Facts, Link, Overlay, Pluto, Secret
from cablectl.libreswan import Argv, LoadedConnection, Version
from cablectl.model import Cable, PskFile
from cablectl.overlay import vxlan

PROBE_LIMIT = 5  # seconds
MAX_FILE = 1 << 20  # bytes; 2,000 endpoints are a third of it
ASSUMED_PATH_MTU = 1500  # bytes, Ethernet's (RFC 894)
_PACKAGES = {"ipsec": "libreswan", "ip": "iproute2", "bridge": "iproute2"}


def read_file(name: str) -> str:
    """Return the text of a file; UsageError if it is no readable, small, regular text file."""
    path = Path(name)
    try:
        about = path.stat()
        if not stat.S_ISREG(about.st_mode):
            raise UsageError(f"{name}: not a regular file", hint="give the path of a YAML file")
        if about.st_size > MAX_FILE:
            raise UsageError(f"{name}: larger than {MAX_FILE} bytes", hint="is it the right file?")
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    except ValueError:
        raise UsageError(
            f"{name}: not text in UTF-8", hint="give the path of a YAML file"
        ) from None


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
    local, remote = str(cable.local.address), str(cable.remote.address)
    try:
        routes = _json("ip", "-j", "route", "get", remote, "from", local)
    except HostNotReadyError:
        return None
    if not routes:
        return None
    told = [metric["mtu"] for metric in routes[0].get("metrics", ()) if "mtu" in metric]
    links = _json("ip", "-j", "link", "show", "dev", routes[0]["dev"])
    return int(min([*told, *(link["mtu"] for link in links)]))


def libreswan_version() -> Version:
    """Return the release that is installed; HostNotReadyError if there is none that will do."""
    told = _output("ipsec", "--version")
    try:
        return libreswan.parse_version(told)
    except UsageError as error:  # such as strongSwan, whose command has the same name
        raise HostNotReadyError(error.message, hint="on Debian: apt install libreswan") from None


def established() -> frozenset[str]:
    """Return the names of the connections that have a Child SA."""
    return libreswan.parse_established(_output(*libreswan.TRAFFIC_STATUS))


def dry_facts(cable: Cable, version: Version | None) -> Facts:
    """Return the facts of a host with nothing of the cable on it, and pluto running.

    Only what decides the commands' arguments is read, where it can be without being root.
    """
    assumed = ["pluto is running"]
    if version is None:
        try:
            version = libreswan_version()
        except HostNotReadyError:
            version = libreswan.LATEST
            assumed.append(f"Libreswan {version}, since none is installed here")
    mtu = path_mtu(cable)
    if mtu is None:
        mtu = ASSUMED_PATH_MTU
        assumed.append(f"a path MTU of {mtu} bytes, since this host isn't {cable.local.cluster}")
    return Facts(libreswan=version, path_mtu=mtu, assumed=tuple(assumed))


def facts(cable: Cable) -> Facts:
    """Return what this host has of the cable; HostNotReadyError where that can't be read."""
    if os.geteuid() != 0:
        raise HostNotReadyError("only root may see and change IPsec", hint="the same with sudo")
    version = libreswan_version()
    mtu = path_mtu(cable)
    not_ready, warnings = list(_not_ready()), []
    if mtu is None:
        local, remote = cable.local.address, cable.remote.address
        not_ready.append((f"no route from {local} to {remote}", "is it this host's address?"))
    held, problem, warning = _secret(cable)
    if problem:
        not_ready.append(problem)
    if warning:
        warnings.append(warning)
    connections = _connections()
    return Facts(
        libreswan=version,
        path_mtu=mtu or ASSUMED_PATH_MTU,
        pluto=_startable() if connections is None else Pluto.RUNNING,
        modules=_has_module("xfrm_user") and _has_module("esp4"),
        service_port=_service_port(),
        secret=held,
        connections=connections or {},
        policies=xfrm.parse_policies(_output("ip", "xfrm", "policy")),
        sas=xfrm.parse_sas(_output("ip", "xfrm", "state", "list", "nokeys")),
        overlay=_overlay(cable),
        not_ready=tuple(not_ready),
        warnings=tuple(warnings),
    )


def _connections() -> dict[str, LoadedConnection] | None:
    """Return what pluto has loaded; None if it isn't running."""
    status = _run(*libreswan.STATUS)
    if status.returncode != 0:
        return None
    return libreswan.parse_connections(status.stdout, _output(*libreswan.TRAFFIC_STATUS))


def _startable() -> Pluto:
    booted = Path("/run/systemd/system").is_dir() and shutil.which("systemctl")  # sd_booted(3)
    if booted and _run("systemctl", "cat", "ipsec.service").returncode == 0:
        return Pluto.STARTABLE
    return Pluto.DOWN


def _not_ready() -> Iterator[tuple[str, str]]:
    if not _has_esp():
        yield ("this kernel has no ESP (module esp4)", "boot a kernel that has CONFIG_INET_ESP")
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


def _has_esp() -> bool:
    """Tell whether ESP is there or can be loaded."""
    if _has_module("esp4"):
        return True
    if shutil.which("modprobe") and _run("modprobe", "-n", "-q", "esp4").returncode == 0:
        return True
    try:  # built in, on a host without /lib/modules, such as a container
        return re.search(r"\besp_init_state\b", Path("/proc/kallsyms").read_text()) is not None
    except OSError:
        return False


def _service_port() -> int | None:
    import socket  # 2 ms that no dry run needs

    try:
        return socket.getservbyname("vxlan", "udp")
    except OSError:
        return None


def _secret(cable: Cable) -> tuple[Secret, tuple[str, str] | None, str]:
    """Return what the secrets file holds, why the key can't be had, and a warning."""
    psk, warning = cable.ipsec.psk, ""
    try:
        there: bytes | None = Path(secret.path(cable)).read_bytes()
    except OSError:
        there = None
    if isinstance(psk, PskFile):
        make = f"umask 077; head -c 32 /dev/urandom | base64 >{psk.path}; copy it to the peer"
        try:
            raw = Path(psk.path).read_bytes()
            if Path(psk.path).stat().st_mode & 0o077:
                warning = f"{psk.path} can be read by others than root: chmod 600 {psk.path}"
        except OSError as error:
            held = Secret.ABSENT if there is None else Secret.OTHER
            return held, (f"ipsec.psk.file: {psk.path}: {error.strerror}", make), ""
    else:
        make = f"export {psk.variable} before you connect"
        raw = os.environb.get(psk.variable.encode(), b"")
    key = secret.key(raw)
    problem = None if key else ("ipsec.psk: the pre-shared key is empty", make)
    if there is None:
        return Secret.ABSENT, problem, warning
    same = there == secret.line(cable, key)
    return Secret.SAME if same else Secret.OTHER, problem, warning


def _overlay(cable: Cable) -> Overlay:
    device = cable.vxlan.device
    found = [link for link in _json("ip", "-d", "-j", "address") if link.get("ifname") == device]
    rule = _has_rule()
    if not found:
        return Overlay(rule=rule)
    # A table that doesn't exist is an error of its own; "all" is none. -N: no names of tables.
    ours = ("table", "all", "proto", vxlan.PROTOCOL, "dev", device)
    return Overlay(
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
            (route["dst"] if "/" in route["dst"] else f"{route['dst']}/32", route["gateway"])
            for route in _json("ip", "-N", "-j", "route", "show", *ours)
            if "gateway" in route and route.get("table") == vxlan.TABLE
        ),
        rule=rule,
    )


def _link(link: dict[str, Any]) -> Link:
    info = link.get("linkinfo", {})
    data = info.get("info_data", {})
    return Link(
        kind=info.get("info_kind", ""),
        mac=link.get("address", ""),
        mtu=link["mtu"],
        up="UP" in link["flags"],
        vni=data.get("id"),
        port=data.get("port"),
        local=data.get("local"),
        addresses=frozenset(
            f"{each['local']}/{each['prefixlen']}" for each in link.get("addr_info", ())
        ),
    )


def _has_rule() -> bool:
    ours = {"table": vxlan.TABLE, "protocol": vxlan.PROTOCOL, "priority": int(vxlan.PRIORITY)}
    return any(ours.items() <= rule.items() for rule in _json("ip", "-N", "-j", "rule", "show"))


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
