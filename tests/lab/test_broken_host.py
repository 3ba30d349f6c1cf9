"""A host that is slow, broken or full: a line of cause, the exit code, and nothing left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from .cable import FILE, connected, ping, prepare, run, torn_down
from .gateways import PLUTO_LOG, Gateway, Lab
from .rooms import PROGRAM, Process
from .traffic import changes

pytestmark = pytest.mark.lab


@pytest.fixture
def c1(lab: Lab) -> Iterator[Gateway]:
    """A gateway that waits for a peer that never comes, unless the test has it come."""
    gateway = lab.gateways[0]
    for each in lab.gateways:
        prepare(each)
    yield gateway
    if gateway.run("ipsec", "whack", "--status", check=False).returncode:
        gateway.start_pluto()


def at(step: str, process: Process) -> None:
    """Wait until a run announces a step of that phase."""
    assert process.stderr
    said = ""
    for line in process.stderr:
        if f"] {step}: " in line:
            return
        said += line
    raise AssertionError(said)


def ended(process: Process) -> tuple[int, str]:
    """Return how a run ended, and what it said from now on."""
    _, said = process.communicate(timeout=120)
    return process.returncode, said


def signal_pluto(gateway: Gateway, name: str) -> None:
    gateway.run("kill", f"-{name}", gateway.read("/run/pluto/pluto.pid").strip())


def test_a_pluto_that_does_not_answer(c1: Gateway) -> None:
    before = c1.snapshot()
    signal_pluto(c1, "STOP")
    try:
        done = run(c1, "connect", FILE)
    finally:
        signal_pluto(c1, "CONT")
    assert done.returncode == 4
    assert "no answer in 5 s from: ipsec whack --status" in done.stderr
    assert "try: look whether pluto hangs: systemctl status ipsec" in done.stderr
    assert changes(before, c1.snapshot()) == ""


def test_a_pluto_that_stops_in_the_middle(c1: Gateway) -> None:
    """Nobody knows what it has done, until it goes on; then a teardown finds out."""
    before = c1.snapshot()
    with c1.popen(PROGRAM, "connect", FILE) as process:
        at("secret", process)
        signal_pluto(c1, "STOP")
        code, said = ended(process)
    assert code == 4, said
    assert "the command took longer than 5 s" in said
    assert "note: can't read what is left: no answer in 5 s" in said
    signal_pluto(c1, "CONT")
    later = run(c1, "teardown", FILE)
    assert "note: an earlier connect was cut off at step" in later.stderr
    assert later.returncode == 0, later.stderr
    assert changes(before, c1.snapshot()) == ""


def test_a_pluto_that_is_killed_in_the_middle(c1: Gateway) -> None:
    """It can unload nothing any more: its policies are taken from the kernel itself."""
    before = c1.snapshot()
    with c1.popen(PROGRAM, "connect", FILE) as process:
        at("wait", process)
        c1.kill_pluto()
        code, said = ended(process)
    assert code == 3, said
    assert "[undo] ip xfrm policy delete src 172.18.0.8/32" in said
    c1.start_pluto()
    assert changes(before, c1.snapshot()) == ""


@pytest.mark.parametrize("missing", ["ip", "nft", "ipsec"])
def test_a_program_that_is_missing(c1: Gateway, missing: str) -> None:
    before = c1.snapshot()
    only(c1, *({"ip", "nft", "ipsec", "bridge", "sh", "ethtool", "modprobe"} - {missing}))
    done = c1.run("env", "PATH=/etc/only", PROGRAM, "connect", FILE, check=False)
    assert done.returncode == 3
    assert f"cablectl: {missing} is not installed" in done.stderr
    assert "try: on Debian: apt install" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert changes(before, c1.snapshot()) == ""


def only(gateway: Gateway, *programs: str) -> None:
    """Make /etc/only hold these programs, and no others."""
    gateway.run("sh", "-c", "rm -rf /etc/only; mkdir /etc/only")
    for each in programs:
        gateway.run("sh", "-c", f'ln -s "$(command -v {each})" /etc/only/')


def test_a_full_run(c1: Gateway) -> None:
    before = c1.snapshot()
    c1.run("mkdir", "/run/cablectl")
    c1.run("mount", "-t", "tmpfs", "-o", "nr_inodes=1", "full", "/run/cablectl")
    try:
        done = run(c1, "connect", FILE)
    finally:
        c1.run("umount", "/run/cablectl")
        c1.run("rmdir", "/run/cablectl")
    assert done.returncode == 3
    assert done.stderr.startswith("cablectl: /run/cablectl")
    assert "No space left on device; without this file cablectl begins no step" in done.stderr
    assert changes(before, c1.snapshot()) == ""


def test_a_directory_that_cannot_be_written(c1: Gateway) -> None:
    before = c1.snapshot()
    c1.run("mount", "--bind", "/etc/ipsec.d", "/etc/ipsec.d")
    c1.run("mount", "-o", "remount,bind,ro", "/etc/ipsec.d")
    try:
        done = run(c1, "connect", FILE)
    finally:
        c1.run("umount", "/etc/ipsec.d")
    assert done.returncode == 1
    assert "cablectl: secret: the command failed" in done.stderr
    assert "Read-only file system" in done.stderr
    assert changes(before, c1.snapshot()) == ""


def test_a_clock_that_jumps(lab: Lab, c1: Gateway) -> None:
    """A day on and two back while it waits; the time that it waits is not the clock's.

    The clock is that of Python: the kernel's belongs to the machine.
    """
    c2 = lab.gateways[1]
    c1.write("/etc/jump/sitecustomize.py", JUMPING_CLOCK)
    c1.write("/etc/jump/seconds", "0")
    moved = ("env", "PYTHONPATH=/etc/jump")
    with c1.popen(*moved, PROGRAM, "connect", FILE) as process:
        at("wait", process)
        for jump in (86400, -86400):
            c1.write("/etc/jump/seconds", str(jump))
            told = c1.run(*moved, sys.executable, "-c", "import time; print(time.time())")
            assert abs(float(told.stdout) - time.time()) > 80000
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
        connected(c2)
        code, said = ended(process)
    assert code == 0, said
    assert ping(c1).returncode == 0
    torn_down(*lab.gateways)


# Bound at once: when Python has read such a module, its names go.
JUMPING_CLOCK = """
import time
from pathlib import Path
def jumped(real=time.time, read=Path("/etc/jump/seconds").read_text):
    return real() + int(read() or 0)
time.time = jumped
"""


def test_the_second_of_two_waits_and_names_the_first(
    c1: Gateway, record_property: Callable[[str, object], None]
) -> None:
    with c1.popen(PROGRAM, "connect", FILE) as first:
        at("wait", first)
        second = run(c1, "teardown", FILE, "--timeout", "1")
        pid = c1.run("pgrep", "-f", f"{PROGRAM} connect").stdout.split()[0]
        first.send_signal(signal.SIGTERM)
        assert ended(first)[0] == 143
    assert second.returncode == 4
    assert f"another cablectl (PID {pid}) is at work on this cable" in second.stderr
    record_property("programs at work on a cable at once", 1)


def test_pluto_logs_no_key(c1: Gateway) -> None:
    """The key is in the file of the secret alone."""
    key = c1.read("/etc/cablectl/psk").strip()
    assert key
    assert key not in c1.read(PLUTO_LOG)
