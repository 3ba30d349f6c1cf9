"""Facts of the daemon: its release, its connections, its secrets files, and whether it runs."""

import os
import shutil
import time
from functools import lru_cache
from pathlib import Path

from cablectl.errors import CablectlError, HostNotReadyError, UsageError
from cablectl.facts.host_facts import Algorithms, Pluto
from cablectl.host import probe
from cablectl.libreswan import (
    authentication,
    dialects,
    nss,
    pluto,
    pluto_commands,
    secrets_file,
    whack,
)
from cablectl.libreswan.dialects import Version
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable


def libreswan_version() -> Version:
    """Return the installed release; HostNotReadyError if no usable release is installed."""
    try:
        return dialects.parse_version(probe.output("ipsec", "--version"))
    except UsageError as error:  # such as strongSwan, whose command is called ipsec too
        raise HostNotReadyError(error.message, hint="on Debian: apt install libreswan") from None


def directly(argv: Argv) -> Argv:
    """Return a command with the program whack in the place of `ipsec whack`.

    `ipsec` is a shell script that takes time. It only adds pluto's socket, if the environment moves
    it. The command stays as it is if whack isn't where Libreswan says.
    """
    if argv[:2] != pluto_commands.WHACK or "IPSEC_RUNDIR" in os.environ:
        return argv
    script = shutil.which("ipsec")
    if not script:
        return argv
    try:
        program = Path(_directory(script, Path(script).stat().st_ctime_ns), argv[1])
    except (OSError, CablectlError):
        return argv
    runs = program.is_absolute() and os.access(program, os.X_OK)
    return (str(program), *argv[2:]) if runs else argv


@lru_cache(maxsize=1)
def _directory(_script: str, _changed: int) -> str:
    """Return where this script has its programs; it is asked anew after it was changed."""
    return probe.output("ipsec", "--directory").strip()


def negotiations() -> pluto.Negotiations:
    """Return what pluto has negotiated, and what is under way."""
    # In this order, no connection that has just come up is missing in both.
    states, traffic = show_states(), _ask(pluto_commands.TRAFFIC_STATUS)
    return pluto.parse_negotiations(states, traffic)


def show_states() -> str:
    """Return what pluto prints about its SAs; HostNotReadyError if it prints nothing."""
    return _ask(pluto_commands.SHOW_STATES)


def _ask(argv: Argv) -> str:
    return probe.output(*directly(argv), shown=argv)


def marked_cables() -> frozenset[str]:
    """Return the ids of the cables that cablectl made on this host."""
    try:
        return authentication.marked_cables(
            file.name for file in Path(secrets_file.DIRECTORY).iterdir()
        )
    except OSError:
        return frozenset()


def identities() -> dict[str, tuple[str, ...]]:
    """Return the lines of cablectl's secrets files without the keys, by the ids of their cables."""
    found = {}
    for cable in marked_cables():
        try:
            text = Path(secrets_file.path_of(cable)).read_text(encoding="utf-8")
        except (OSError, ValueError):
            continue
        mark = nss.parse_mark(text)
        found[cable] = mark.pairs if mark else secrets_file.pairs_in(text)
    return found


def algorithms_of(cable: Cable) -> Algorithms:
    """Return what `ipsec algparse` says of the file's algorithms."""
    known: dict[str, tuple[str, ...]] = {}
    for asked in whack.algorithms_to_parse(cable):
        kind = asked.partition("=")[0]
        answer = _answer_of_algparse(kind, asked)
        if isinstance(answer, Algorithms):
            return answer
        known[kind] = answer
    return Algorithms(known.get("esp", ()), ike=known.get("ike", ()))


def _answer_of_algparse(kind: str, asked: str) -> tuple[str, ...] | Algorithms:
    """Return the algorithms as pluto writes them, or why Libreswan refuses or can't check them."""
    result = probe.run(*pluto_commands.PARSE_ALGORITHMS, asked)
    if result.returncode == 0 and (parsed := pluto.parse_algorithms(result.stdout)):
        return parsed
    lines = [line.strip() for line in (*result.stdout.splitlines(), *result.stderr.splitlines())]
    for line in lines:
        if "ERROR: " in line:
            return Algorithms(None, refused=line.partition("ERROR: ")[2])
    how = f"exit code {result.returncode}: {lines[0] if lines else 'no output'}"
    return Algorithms(None, unchecked=f"`ipsec algparse` can't check ipsec.{kind} here: {how}")


def pluto_status() -> pluto.Status | None:
    """Return pluto's connections and SAs; None if pluto isn't running."""
    # In this order, the status has a state for every Child SA that carries traffic.
    traffic, status = (
        probe.run(*directly(argv), shown=argv)
        for argv in (pluto_commands.TRAFFIC_STATUS, pluto_commands.STATUS)
    )
    if status.returncode != 0:
        return None
    return pluto.parse(status.stdout, traffic.stdout, time.time())


def startable() -> Pluto:
    """Return whether systemd could start a pluto that isn't running."""
    booted = Path("/run/systemd/system").is_dir() and shutil.which("systemctl")  # sd_booted(3)
    if booted and probe.run("systemctl", "cat", "ipsec.service").returncode == 0:
        return Pluto.STARTABLE
    return Pluto.DOWN


def service_port() -> int | None:
    """Return the UDP port of the service name vxlan on this host; None if it has none."""
    import socket  # costs 2 ms, which a dry run saves

    try:
        return socket.getservbyname("vxlan", "udp")
    except OSError:
        return None
