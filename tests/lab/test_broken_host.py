"""A slow, broken or full host: the error names the cause, and nothing is left behind."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from cablectl.plan.steps import COMMAND_LIMIT

from .cable import FILE, bring_up, ping, prepare, run, tear_down
from .gateways import PLUTO_LOG, Gateway, Lab
from .rooms import PROGRAM, Process
from .traffic import changes

pytestmark = pytest.mark.lab


@pytest.fixture
def c1(lab: Lab) -> Iterator[Gateway]:
    """A gateway whose connect waits for the peer, since no connection is loaded on the peer."""
    c1 = lab.gateways[0]
    for gateway in lab.gateways:
        prepare(gateway)
    yield c1
    if c1.run("ipsec", "whack", "--status", check=False).returncode:
        c1.start_pluto()


def await_step(step: str, process: Process) -> None:
    """Wait until a run announces a step of that phase; AssertionError if the run ends first."""
    assert process.stderr
    output = ""
    for line in process.stderr:
        if f"] {step}: " in line:
            return
        output += line
    raise AssertionError(output)


def outcome(process: Process) -> tuple[int, str]:
    """Wait for a run's end; return exit code and the rest of standard error."""
    _, output = process.communicate(timeout=240)
    return process.returncode, output


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
    assert "no answer in 5 s from: ipsec whack --trafficstatus" in done.stderr
    assert "try: look whether pluto hangs: systemctl status ipsec" in done.stderr
    assert changes(before, c1.snapshot()) == ""


def test_a_pluto_that_stops_in_the_middle(c1: Gateway) -> None:
    """connect can't know what pluto did; when pluto continues, teardown removes it."""
    before = c1.snapshot()
    with c1.popen(PROGRAM, "connect", FILE) as process:
        await_step("secret", process)
        signal_pluto(c1, "STOP")
        try:
            code, output = outcome(process)
        finally:
            signal_pluto(c1, "CONT")
    assert code == 4, output
    assert f"the command took longer than {COMMAND_LIMIT} s" in output, output
    assert "note: can't read what is left: no answer in 5 s" in output
    later = run(c1, "teardown", FILE)
    assert "note: an earlier connect was cut off at step" in later.stderr
    assert later.returncode == 0, later.stderr
    assert changes(before, c1.snapshot()) == ""


def test_a_pluto_that_is_killed_in_the_middle(c1: Gateway) -> None:
    """A killed pluto unloads nothing, so connect removes pluto's policies from the kernel."""
    c1.write(FILE, f"{c1.read(FILE)}  initiate: both\n")  # so this end has trap policies
    before = c1.snapshot()
    with c1.popen(PROGRAM, "connect", FILE) as process:
        await_step("wait", process)
        c1.kill_pluto()
        code, output = outcome(process)
    assert code == 3, output
    assert "[undo] ip xfrm policy delete src 172.18.0.8/32" in output
    c1.start_pluto()
    assert changes(before, c1.snapshot()) == ""


def test_a_pluto_that_listens_elsewhere(c1: Gateway) -> None:
    """pluto loads a connection for which it has no interface, and refuses to route it."""
    config = c1.read("/etc/ipsec.conf")
    before = c1.snapshot()
    c1.stop_pluto()
    c1.write("/etc/ipsec.conf", "config setup\n    listen=127.0.0.1\n")
    c1.start_pluto("lo")
    try:
        done = run(c1, "connect", FILE)
    finally:
        c1.stop_pluto()
        c1.write("/etc/ipsec.conf", config)
        c1.start_pluto()
    assert done.returncode == 3
    assert "pluto uses no interface that has 172.18.0.8" in done.stderr
    assert "try: correct listen= in /etc/ipsec.conf" in done.stderr
    assert changes(before, c1.snapshot()) == ""


@pytest.mark.parametrize("missing", ["ip", "nft", "ipsec"])
def test_a_program_that_is_missing(c1: Gateway, missing: str) -> None:
    before = c1.snapshot()
    install_only(c1, *({"ip", "nft", "ipsec", "bridge", "sh", "ethtool", "modprobe"} - {missing}))
    done = c1.run("env", "PATH=/etc/only", PROGRAM, "connect", FILE, check=False)
    assert done.returncode == 3
    assert f"cablectl: {missing} is not installed" in done.stderr
    assert "try: on Debian: apt install" in done.stderr
    assert len(done.stderr.splitlines()) == 2
    assert changes(before, c1.snapshot()) == ""


def install_only(gateway: Gateway, *programs: str) -> None:
    """Make the directory /etc/only with links to these programs."""
    gateway.run("sh", "-c", "rm -rf /etc/only; mkdir /etc/only")
    for program in programs:
        gateway.run("sh", "-c", f'ln -s "$(command -v {program})" /etc/only/')


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
    """The clock jumps by a day, forward and back, while connect waits; connect keeps waiting.

    Python's clock jumps, since the kernel's clock belongs to the whole machine.
    """
    c2 = lab.gateways[1]
    c1.write("/etc/jump/sitecustomize.py", JUMPING_CLOCK)
    c1.write("/etc/jump/seconds", "0")
    moved = ("env", "PYTHONPATH=/etc/jump")
    with c1.popen(*moved, PROGRAM, "connect", FILE) as process:
        await_step("wait", process)
        for jump in (86400, -86400):
            c1.write("/etc/jump/seconds", str(jump))
            now = c1.run(*moved, sys.executable, "-c", "import time; print(time.time())").stdout
            assert abs(float(now) - time.time()) > 80000
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(2)
        bring_up(c2)
        code, output = outcome(process)
    assert code == 0, output
    assert ping(c1).returncode == 0
    tear_down(*lab.gateways)


# Default arguments keep the names: Python discards the names of sitecustomize after its import.
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
        await_step("wait", first)
        second = run(c1, "teardown", FILE, "--timeout", "1")
        pid = c1.run("pgrep", "-f", f"{PROGRAM} connect").stdout.split()[0]
        first.send_signal(signal.SIGTERM)
        assert outcome(first)[0] == 143
    assert second.returncode == 4
    assert f"another cablectl (PID {pid}) is at work on this cable" in second.stderr
    record_property("programs at work on a cable at once", 1)


def test_pluto_logs_no_key(c1: Gateway) -> None:
    """The pre-shared key is only in the secrets file."""
    key = c1.read("/etc/cablectl/psk").strip()
    assert key
    assert key not in c1.read(PLUTO_LOG)
