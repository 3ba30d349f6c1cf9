"""Collects the evidence of this host that concerns every cable."""

import ctypes
import os
import time
from collections.abc import Iterable
from pathlib import Path

from cablectl.doctor.evidence import HostEvidence, Presence, Run
from cablectl.errors import CablectlError
from cablectl.host import daemon, devices, kernel, packet_filters, probe
from cablectl.libreswan import pluto, pluto_commands
from cablectl.linux import sockets
from cablectl.linux.sockets import PLUTO, Process
from cablectl.run import journal

# Daemons that speak IKE: Libreswan's, strongSwan's, racoon's, OpenIKED's.
DAEMONS = (PLUTO, "charon", "charon-systemd", "charon-nm", "racoon", "iked")
_TIMEX_SIZE = 512  # bytes; larger than struct timex. With mode 0 adjtimex(2) only reads
_TIME_ERROR = 5  # adjtimex(2): the clock isn't synchronised


def collect_host(modules: Iterable[str]) -> HostEvidence:
    """Return the evidence of this host, with the presence of the given kernel modules.

    Without root, evidence that only root can read is empty. HostNotReadyError without iproute2.
    """
    root = os.geteuid() == 0
    status, pluto_error = _status() if root else ("", "")
    return HostEvidence(
        root=root,
        kernel=os.uname().release,
        time=time.time(),
        synchronised=_synchronised(),
        libreswan=probe.if_any("ipsec", "--version"),
        daemons=_daemons(),
        pluto_error=pluto_error,
        listening=pluto.parse_listening(status),
        cables=tuple(pluto.cables(pluto.parse_connections(status, ""))),
        own_cables=daemon.marked_cables(),
        sockets=sockets.parse(probe.if_any("ss", "-H", "-u", "-l", "-n", "-p")),
        modules={name: _presence(name) for name in modules},
        links=devices.links(),
        fips=kernel.in_fips_mode(),
        runs=tuple(
            Run(
                run.cable,
                pid=run.pid,
                at_work=run.held,
                cut_off=run.entry.cut_off if run.entry else "",
            )
            for run in journal.runs()
        ),
        firewall=packet_filters.chains() if root else None,
    )


def _status() -> tuple[str, str]:
    """Return pluto's status and an empty error, or an empty status and the error."""
    try:
        done = probe.run(*pluto_commands.STATUS)
    except CablectlError as error:
        return "", error.message
    if done.returncode:
        return "", (done.stderr or done.stdout).partition("\n")[0] or "whack failed"
    return done.stdout, ""


def _synchronised() -> bool | None:
    try:
        state = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_SIZE))
    except (OSError, AttributeError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def _daemons() -> tuple[Process, ...]:
    names = {
        int(entry.name): _text(entry / "comm")
        for entry in Path("/proc").iterdir()
        if entry.name.isdecimal()
    }
    return tuple(Process(name, pid) for pid, name in sorted(names.items()) if name in DAEMONS)


def _presence(name: str) -> Presence:
    if kernel.has_module(name) or kernel.has_code(name):
        return Presence.LOADED
    return Presence.LOADABLE if kernel.can_load(name) else Presence.MISSING


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
