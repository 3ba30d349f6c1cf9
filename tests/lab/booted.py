"""A gateway whose systemd runs: as the first process of a pid namespace in the gateway's room."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from .gateways import Gateway
from .rooms import CHECKOUT, PROGRAM, LabError, until

UNIT = CHECKOUT / "systemd" / "cablectl@.service"
LIMIT = 240  # seconds; on a slow host a pluto's modules alone take a minute
# Nothing else of the gateway's Debian is started.
UNITS = (
    "basic.target",
    "ipsec.service",
    "local-fs.target",
    "multi-user.target",
    "network-online.target",
    "network.target",
    "shutdown.target",
    "sockets.target",
    "sysinit.target",
    "systemd-journald.service",
    "systemd-journald.socket",
    "umount.target",
)
# $0 is the program, which has to be where systemd looks for it; the rest are units.
CONFIGURE = """
set -e
mount -t tmpfs tmpfs /etc/systemd
mkdir -p /etc/systemd/system/sysinit.target.wants /tmp/bin
for each in "$@"; do ln -s "/lib/systemd/system/$each" /etc/systemd/system; done
ln -s ../systemd-journald.service /etc/systemd/system/sysinit.target.wants
ln -s "$0" /tmp/bin/cablectl
mount --bind /tmp/bin /usr/local/bin
"""
# The program of a checkout, and its Python, may be in somebody's home, which the unit doesn't see.
SEES_CHECKOUT = f"""
[Service]
ProtectHome=tmpfs
BindReadOnlyPaths={CHECKOUT} -{sys.base_prefix} /tmp/bin
"""
# $0 is the name of a cgroup: else all systemds of the lab would work in the same one.
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
    """Have the gateway's systemd know the unit, and few others."""
    gateway.run("sh", "-c", CONFIGURE, PROGRAM, *UNITS)
    folder = "/etc/systemd/system"
    gateway.write(f"{folder}/{UNIT.name}", UNIT.read_text(), 0o644)
    gateway.write(f"{folder}/{UNIT.name}.d/lab.conf", SEES_CHECKOUT, 0o644)


@contextmanager
def booted(gateway: Gateway) -> Iterator[None]:
    """Run systemd on a gateway, and with it what is enabled; meanwhile programs run beside it.

    At the end it is killed, and with it all that it started.
    """
    pid, root, cgroup = gateway.pid, gateway.root, f"lab-{gateway.name}"
    first = gateway.path(f"/sys/fs/cgroup/{cgroup}/init.scope/cgroup.procs")
    with gateway.popen("sh", "-c", BOOT, cgroup) as boot:
        try:
            until(lambda: first.exists() and first.read_text() != "", "systemd")
            gateway.pid = int(first.read_text().split()[0])
            gateway.root = Path(f"/proc/{gateway.pid}/root")
            until(lambda: shown(gateway, "LoadState", "ipsec") == "loaded", "systemd's answer")
            yield
        finally:
            gateway.pid, gateway.root = pid, root
            boot.kill()


def systemctl(gateway: Gateway, *args: str) -> subprocess.CompletedProcess[str]:
    """Run systemctl, whatever its exit code."""
    return gateway.run("systemctl", *args, check=False, timeout=LIMIT)


def shown(gateway: Gateway, what: str, unit: str) -> str:
    """Return what systemd says of a unit: its ActiveState, its Result …"""
    return systemctl(gateway, "show", "--value", f"--property={what}", unit).stdout.strip()


def comes(gateway: Gateway, condition: Callable[[], bool], what: str) -> None:
    """Wait for a condition; a LabError says what didn't come, with the end of the journal."""
    try:
        until(condition, what, LIMIT)
    except LabError as error:
        journal = gateway.run("journalctl", "--no-pager", "--lines=40", check=False).stdout
        raise LabError(f"{gateway.name}: {error}\n{journal}") from None
