"""Rooms: namespaces of this machine, in which programs run as if on another host."""

from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.support.signals import UNIGNORED

CLONE_NEWNET = 0x40000000
ETH_P_ALL = 0x0003
CHECKOUT = Path(__file__).parent.parent.parent
PROGRAM = str(Path(sys.executable).parent / "cablectl")

# PID 1 of a room: $1 is the root directory. Unless that is /, the checkout $2 is mounted below the
# root at the same path, and the root's own cablectl at the path $3. If $4 isn't empty, it is a
# directory whose files in the prefix $5, etc and var are over those of the root. $6 is the host
# name. PID 1 is a shell, since PID 1 must reap orphaned processes.
ROOM = """
set -e
read -r pid rest </proc/self/stat # the PID outside, since the room's own /proc isn't mounted yet
root=${1%/} checkout=$2 layer=$4 prefix=$5
cd "$checkout"
[ ! "$layer" ] || exec 3<"$layer" # its path may be hidden soon, and mount would split it at a colon
if [ "$root" ]; then
    mount --bind "$root" "$root"
    mount --rbind /dev "$root/dev"
fi
mount -t proc proc "$root/proc"
echo "$6" >"$root/proc/sys/kernel/hostname"
mount -t sysfs sysfs "$root/sys"
mount -t tmpfs tmpfs "$root/tmp"
for folder in etc var; do
    upper=$root/tmp/$folder lower=$root/$folder
    mkdir "$upper" "$upper.work"
    mount -t overlay -o "lowerdir=$lower,upperdir=$upper,workdir=$upper.work" overlay "$lower"
    # Not one more lowerdir, since the layer itself may be below /var.
    [ ! -d "/proc/self/fd/3/$folder" ] || tar -C /proc/self/fd/3 -c "$folder" |
        tar -C "$root/" -x --no-same-owner --no-overwrite-dir --keep-directory-symlink
done
if [ "$layer" ]; then
    mount -t overlay -o "lowerdir=/proc/self/fd/3$prefix:$root$prefix" overlay "$root$prefix"
    exec 3<&-
fi
mount -t tmpfs tmpfs "$root/tmp"
mount -t tmpfs tmpfs "$root/run"
mkdir -p "$root/run/pluto" "$root/run/lock"
# The checkout is hidden now if it is below /tmp. The working directory still shows it.
mkdir -p "$root$checkout"
mount --no-canonicalize --bind /proc/self/cwd "$root$checkout"
# Without duplicate detection, addresses don't change their state by themselves.
echo 0 >"$root/proc/sys/net/ipv6/conf/default/accept_dad"
if [ "$root" ]; then
    mount --bind "$root$checkout" "$root/opt/cablectl/checkout"
    [ -e "$root$3" ] || { mkdir -p "$root${3%/*}"; : >"$root$3"; } # a .venv outside of the checkout
    mount --bind "$root/opt/cablectl/cablectl" "$root$3"
    # Not chroot: a program that makes a mount namespace in here needs a root that is a mount.
    cd "$root"
    pivot_root . .
    umount --lazy .
fi
exec sh -c 'echo "$1"; sleep infinity; exit' sh "$pid"
"""


class LabError(Exception):
    """The lab itself doesn't work, or a command failed that must succeed."""


def until(condition: Callable[[], bool], what: str, timeout: float = 60.0) -> None:
    """Wait for a condition; LabError with `what` after `timeout` seconds."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            raise LabError(f"waited {timeout:g} s in vain: {what}")
        time.sleep(0.05)


class Process(subprocess.Popen[str]):
    """A program in a room. nsenter returns the program's exit code, but forwards no signal."""

    def send_signal(self, sig: int) -> None:
        """Send a signal to the program, not to nsenter, if the program still runs."""
        if self.poll() is not None:
            return
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text()
        os.kill(int(children or self.pid), sig)


class Room:
    """Network, mount, PID and UTS namespaces; `close` kills their processes.

    `root` is the root directory: this machine's, or another Debian's. `layer` is "", or a directory
    whose files in `prefix`, etc and var are over those of the root. LabError without root rights.
    """

    namespaces: tuple[str, ...] = ("--net", "--mount", "--pid", "--uts")
    script = ROOM

    def __init__(self, name: str, root: str = "/", layer: str = "", prefix: str = "") -> None:
        self.name = name
        unshare = ("unshare", *self.namespaces, "--fork", "--kill-child", "sh", "-c")
        pipe = subprocess.PIPE
        argv = (*unshare, self.script, "room", root, str(CHECKOUT), PROGRAM, layer, prefix, name)
        self._first = subprocess.Popen(argv, stdout=pipe, stderr=pipe, text=True)
        assert self._first.stdout
        pid = self._first.stdout.readline()
        if not pid:
            why = self._first.communicate()[1].strip()
            raise LabError(f"the lab runs by tests/lab/boot; here it can't: {why}")
        self.pid = int(pid)
        self.root = Path(f"/proc/{self.pid}/root")

    def close(self) -> None:
        """Kill everything in here."""
        self._first.kill()
        self._first.communicate()

    def path(self, path: str) -> Path:
        """Return the path by which this process reaches a path of the room."""
        return self.root / path.lstrip("/")

    def popen(self, *argv: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a program in the room, with pipes as its streams; `env` adds to the environment."""
        pipe = subprocess.PIPE
        namespaces = ("--net", "--mount", "--pid", "--uts", "--root", "--wd")
        enter = (*UNIGNORED, "nsenter", f"--target={self.pid}", *namespaces, "--", *argv)
        extended = {**os.environ, **(env or {})}
        return Process(enter, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=extended)

    def run(
        self,
        *argv: str,
        check: bool = True,
        timeout: float = 60.0,
        input: str = "",  # noqa: A002 - subprocess calls it that
        env: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run a program in the room; with `check`, LabError with the output if it fails.

        TimeoutExpired after `timeout` seconds.
        """
        with self.popen(*argv, env=env) as process:
            try:
                stdout, stderr = process.communicate(input, timeout)
            except BaseException:
                process.kill()
                raise
        if check and process.returncode:
            command = f"{self.name}: {' '.join(argv)}: exit code {process.returncode}"
            raise LabError(f"{command}\n{stdout}{stderr}")
        return subprocess.CompletedProcess(argv, process.returncode, stdout, stderr)

    def ip(self, *commands: str) -> None:
        """Run `ip` commands in one process, with PIDs from outside the room; LabError on error."""
        argv = ("nsenter", f"--target={self.pid}", "--net", "ip", "-batch", "-")
        result = subprocess.run(argv, input="\n".join(commands), text=True, capture_output=True)
        if result.returncode:
            raise LabError(f"{self.name}: ip: {result.stderr}")

    def open_socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        """Open a socket in the room's network namespace."""

        def open_there() -> socket.socket:
            with Path(f"/proc/{self.pid}/ns/net").open() as network:
                if ctypes.CDLL(None).setns(network.fileno(), CLONE_NEWNET):
                    raise LabError(f"{self.name}: setns failed")
            return socket.socket(family, kind, protocol)

        with ThreadPoolExecutor(1) as thread:  # setns moves only the thread that calls it
            return thread.submit(open_there).result()

    def socket(self) -> socket.socket:
        """Open a packet socket in the room's network namespace; it receives every frame."""
        return self.open_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
