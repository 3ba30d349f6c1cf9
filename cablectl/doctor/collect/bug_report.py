"""The texts of a bug report, by file name, without any key."""

import os
import platform
import shlex
from collections.abc import Iterator

from cablectl import __version__
from cablectl.errors import CablectlError
from cablectl.host import keys, nss_store, probe
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan import secrets_file
from cablectl.libreswan.pluto_commands import STATUS, TRAFFIC_STATUS
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable

_VERSIONS: tuple[Argv, ...] = (("ipsec", "--version"), ("ip", "-V"), ("nft", "--version"))
_COMMANDS: dict[str, tuple[Argv, ...]] = {
    "pluto.txt": (STATUS, TRAFFIC_STATUS),
    "xfrm.txt": (
        ("ip", "xfrm", "policy"),
        ("ip", "-d", "-s", "xfrm", "state", "list", "nokeys"),
        ("cat", "/proc/net/xfrm_stat"),
    ),
    "ip.txt": (
        ("ip", "-d", "-s", "address"),
        ("ip", "rule"),
        ("ip", "-6", "rule"),
        ("ip", "route", "show", "table", "all"),
        ("ip", "neigh"),
        ("bridge", "fdb"),
        ("ss", "-u", "-l", "-n", "-p"),
        ("grep", "-r", "", "/proc/sys/net/ipv4/conf", "--include=rp_filter"),
        ("grep", "-r", "", "/proc/sys/net/ipv4/conf", "--include=forwarding"),
    ),
    "firewall.txt": (
        ("nft", "-a", "list", "ruleset"),
        ("iptables-save",),
        ("ip6tables-save",),
        ("iptables-legacy-save",),
        ("ip6tables-legacy-save",),
    ),
    "modules.txt": (("cat", "/proc/modules"),),
}


def texts() -> dict[str, str]:
    """Return the output of this host's commands, and pluto's log."""
    outputs = {name: "\n".join(map(_run, argvs)) for name, argvs in _COMMANDS.items()}
    directory = nss_store.read().directory
    return {
        "nss.txt": "\n".join(map(_run, _nss(directory))),
        "versions.txt": "\n".join(_versions()),
        **outputs,
        "pluto.log": secrets_file.masked_log(PlutoLog(whole=True).read()),
    }


def without_keys(members: dict[str, str], cable: Cable | None) -> dict[str, str]:
    """Return the texts with the keys of the cable's file masked, wherever they may appear."""
    wishes = (cable.ipsec.psk, cable.ipsec.ppk) if cable else ()
    for key in (key for wish in wishes if wish for key in keys.all_of(wish)):
        members = {name: secrets_file.masked(text, key) for name, text in members.items()}
    return members


def _nss(directory: str) -> Iterator[Argv]:
    """Yield the commands that list NSS's certificates and CRLs; none of them lists keys."""
    for tool in ("certutil", "crlutil"):
        yield (tool, "-L", "-d", directory)


def _versions() -> Iterator[str]:
    yield f"cablectl {__version__}, Python {platform.python_version()}"
    yield " ".join(os.uname())
    yield from map(_run, _VERSIONS)


def _run(argv: Argv) -> str:
    """Return a command and its output, or its error."""
    try:
        done = probe.run(*argv)
    except CablectlError as error:
        return f"$ {shlex.join(argv)}\n{error.message}\n"
    code = f"exit code {done.returncode}\n" if done.returncode else ""
    return f"$ {shlex.join(argv)}\n{done.stdout}{done.stderr}{code}"
