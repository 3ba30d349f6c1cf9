"""A gateway on which systemd runs, as PID 1 of a PID namespace in the gateway's room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .gateways import Gateway
from .rooms import CHECKOUT, PROGRAM, LabError, until

OWN_UNITS = sorted((CHECKOUT / "systemd").glob("*.service"))
LIMIT = 240  # seconds; on a slow host, loading pluto's modules takes a minute
# systemd starts no other units of the gateway's Debian.
UNITS = (
    "basic.target",
    "ipsec.service",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network-pre.target",
    "network.target",
    "shutdown.target",
    "sockets.target",
    "sysinit.target",
    "systemd-journald.service",
    "systemd-journald.socket",
    "umount.target",
)
# $0 is the program, which the unit expects in /usr/local/bin; $@ are the units.
CONFIGURE = """
set -e
mount -t tmpfs tmpfs /etc/systemd
mkdir -p /etc/systemd/system/sysinit.target.wants /tmp/bin
for unit in "$@"; do ln -s "/lib/systemd/system/$unit" /etc/systemd/system; done
ln -s ../systemd-journald.service /etc/systemd/system/sysinit.target.wants
ln -s "$0" /tmp/bin/cablectl
mount --bind /tmp/bin /usr/local/bin
"""
# Checkout and Python may be in a home directory, which the unit's sandbox hides.
SEES_CHECKOUT = f"""
[Service]
ProtectHome=tmpfs
BindReadOnlyPaths="{CHECKOUT}" "-{sys.base_prefix}" /tmp/bin
"""
# $0 is the name of a cgroup, so that each systemd of the lab has a cgroup of its own.
BOOT = """
set -e
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mkdir "/sys/fs/cgroup/$0"
echo $$ >"/sys/fs/cgroup/$0/cgroup.procs"
exec unshare --cgroup --mount --pid --fork --kill-child --mount-proc sh -c '
umount /sys/fs/cgroup
mount -t cgroup2 cgroup2 /sys/fs/cgroup
exec env -i PATH="$PATH" container=lab SYSTEMD_UNIT_PATH=/etc/systemd/system \
    /lib/systemd/systemd --system --unit=multi-user.target --show-status=no'
"""


def configure(gateway: Gateway) -> None:
    """Install cablectl's units and the units of UNITS, before systemd runs."""
    gateway.run("sh", "-c", CONFIGURE, PROGRAM, *UNITS)
    folder = "/etc/systemd/system"
    for unit in OWN_UNITS:
        gateway.write(f"{folder}/{unit.name}", unit.read_text(), 0o644)
        gateway.write(f"{folder}/{unit.name}.d/lab.conf", SEES_CHECKOUT, 0o644)


@contextmanager
def booted(gateway: Gateway) -> Iterator[None]:
    """Run systemd on a gateway, with all enabled units; `gateway.run` then runs beside systemd.

    At the end, systemd and all its processes are killed.
    """
    pid, root, cgroup = gateway.pid, gateway.root, f"lab-{gateway.name}"
    first = gateway.path(f"/sys/fs/cgroup/{cgroup}/init.scope/cgroup.procs")
    with gateway.popen("sh", "-c", BOOT, cgroup) as boot:
        try:
            until(lambda: first.exists() and first.read_text() != "", "systemd")
            gateway.pid = int(first.read_text().split()[0])
            gateway.root = Path(f"/proc/{gateway.pid}/root")
            until(
                lambda: unit_property(gateway, "LoadState", "ipsec") == "loaded", "systemd's answer"
            )
            yield
        finally:
            gateway.pid, gateway.root = pid, root
            boot.kill()


def systemctl(gateway: Gateway, *args: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl; any exit code is accepted."""
    return gateway.run("systemctl", *args, check=False, timeout=LIMIT)


def unit_property(gateway: Gateway, name: str, unit: str) -> str:
    """Return a property of a unit, such as ActiveState or Result."""
    return systemctl(gateway, "show", "--value", f"--property={name}", unit).stdout.strip()


def await_condition(gateway: Gateway, condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; after LIMIT seconds LabError with the end of the journal."""
    try:
        until(condition, what, LIMIT)
    except LabError as error:
        journal = gateway.run("journalctl", "--no-pager", "--lines=40", check=False).stdout
        raise LabError(f"{gateway.name}: {error}\n{journal}") from None
