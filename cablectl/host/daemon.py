"""Facts of the daemon: its release, its connections, its secrets files, and whether it runs."""

import shutil
from pathlib import Path

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts.host_facts import Pluto
from cablectl.host import probe
from cablectl.libreswan import authentication, dialects, pluto, pluto_commands, secrets_file, whack
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable


def libreswan_version() -> Version:
    """Return the release that is installed; HostNotReadyError if there is none that will do."""
    told = probe.output("ipsec", "--version")
    try:
        return dialects.parse_version(told)
    except UsageError as error:  # such as strongSwan, whose command has the same name
        raise HostNotReadyError(error.message, hint="on Debian: apt install libreswan") from None


def established() -> frozenset[str]:
    """Return the names of the connections that have a Child SA."""
    return pluto.parse_established(probe.output(*pluto_commands.TRAFFIC_STATUS))


def marked_cables() -> frozenset[str]:
    """Return the ids of the cables that cablectl made on this host."""
    try:
        return authentication.marked_cables(
            file.name for file in Path(secrets_file.DIRECTORY).iterdir()
        )
    except OSError:
        return frozenset()


def algorithms_of(cable: Cable) -> tuple[tuple[str, ...] | None, str]:
    """Return the file's algorithms in Libreswan's own words, and what it says against them."""
    asked = whack.algorithms_to_parse(cable)
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
    status = probe.run(*pluto_commands.STATUS)
    if status.returncode != 0:
        return None
    return pluto.parse(status.stdout, probe.output(*pluto_commands.TRAFFIC_STATUS))


def startable() -> Pluto:
    """Return whether systemd could start a pluto that isn't running."""
    booted = Path("/run/systemd/system").is_dir() and shutil.which("systemctl")  # sd_booted(3)
    if booted and probe.run("systemctl", "cat", "ipsec.service").returncode == 0:
        return Pluto.STARTABLE
    return Pluto.DOWN


def service_port() -> int | None:
    """Return which UDP port the name vxlan stands for here, if any."""
    import socket  # 2 ms that no dry run needs

    try:
        return socket.getservbyname("vxlan", "udp")
    except OSError:
        return None
