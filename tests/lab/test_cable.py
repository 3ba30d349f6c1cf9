"""The main job, with the installed program on two real gateways."""

from __future__ import annotations

import json
import shlex
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from .cable import (
    FILE,
    PSK_FILE,
    VTEP,
    bring_up,
    child_sas,
    connections,
    ping,
    prepare,
    run,
    tear_down,
    until_it_waits,
)
from .gateways import PLUTO_LOG, Gateway, Lab
from .rooms import PROGRAM, until
from .wire import Capture

pytestmark = pytest.mark.lab

ICMP_AND_IP = 28  # bytes of headers, which ping's -s doesn't count


def assert_encrypted(wire: Capture) -> None:
    summary = wire.summary()
    assert summary["overlay"].frames == 0, "overlay packets in clear text"
    assert summary["esp-in-udp"].frames > 0


@pytest.fixture
def gateways(lab: Lab) -> Iterator[Lab]:
    """Gateways with pluto and the file but no cable; after the test, both are so again."""
    for gateway in lab.gateways:
        prepare(gateway)
    yield lab
    for gateway in lab.gateways:
        prepare(gateway)
        if gateway.run("ipsec", "whack", "--status", check=False).returncode:
            gateway.start_pluto()
    tear_down(*lab.gateways)


def test_from_connect_to_teardown(gateways: Lab) -> None:
    lab = gateways
    before = [gateway.snapshot() for gateway in lab.gateways]
    with lab.capture() as wire:
        bring_up(*lab.gateways)
        for gateway in lab.gateways:
            assert child_sas(gateway) == connections(gateway)  # one Child SA for each connection
            assert ping(gateway).returncode == 0
            reaches_the_largest_and_no_more(gateway)
            connect_again_changes_nothing(gateway)
        assert wire.summary()["esp-in-udp"].largest == 1500
        tear_down(*lab.gateways)
    assert_encrypted(wire)
    assert [gateway.snapshot() for gateway in lab.gateways] == before


def reaches_the_largest_and_no_more(gateway: Gateway) -> None:
    (link,) = json.loads(gateway.run("ip", "-j", "link", "show", "vxlan-tunnel").stdout)
    size = link["mtu"] - ICMP_AND_IP
    assert ping(gateway, "-M", "do", "-s", str(size)).returncode == 0
    assert ping(gateway, "-M", "do", "-s", str(size + 1)).returncode != 0


def connect_again_changes_nothing(gateway: Gateway) -> None:
    before = gateway.snapshot()
    again = run(gateway, "connect", FILE)
    assert (again.returncode, again.stderr) == (0, "")
    assert again.stdout.startswith("nothing to do: the cable to")
    assert gateway.snapshot() == before
    live = run(gateway, "plan", FILE, "--exit-code")
    assert live.returncode == 0, live.stdout
    assert {line[0] for line in live.stdout.splitlines()[1:]} == {"="}


def test_the_kernel_reports_that_no_larger_mtu_fits(gateways: Lab) -> None:
    """If the device's MTU is 4 bytes larger, the kernel reports the path MTU for a full packet."""
    bring_up(*gateways.gateways)
    for gateway in gateways.gateways:
        gateway.ip("link set vxlan-tunnel mtu 1412")
    larger = ping(gateways.gateways[0], "-M", "do", "-s", str(1412 - ICMP_AND_IP))
    assert "message too long, mtu=1408" in larger.stderr


@pytest.mark.parametrize(
    ("ipsec", "kind", "size"),
    [
        ("  encapsulation: no\n", "esp", 1416),
        ("  pfs_group: modp2048\n  esp: [aes_gcm-null]\n", "esp-in-udp", 1408),
        ("  esp: [aes256-sha2_256]\n", "esp-in-udp", 1392),
    ],
    ids=["bare ESP", "the proposal's algorithms", "CBC"],
)
def test_the_mtu_is_exact(gateways: Lab, ipsec: str, kind: str, size: int) -> None:
    """A full packet isn't fragmented, and fills the wire except for the cipher's padding."""
    for gateway in gateways.gateways:
        gateway.write(FILE, gateway.read(FILE) + ipsec)
    with gateways.capture() as wire:
        bring_up(*gateways.gateways)
        c1 = gateways.gateways[0]
        (link,) = json.loads(c1.run("ip", "-j", "link", "show", "vxlan-tunnel").stdout)
        assert link["mtu"] == size
        assert ping(c1, "-M", "do", "-s", str(size - ICMP_AND_IP)).returncode == 0
    summary = wire.summary()
    assert summary["overlay"].frames == 0
    assert 1500 - 16 < summary[kind].largest <= 1500


def test_subnets_are_routed_over_the_overlay(gateways: Lab) -> None:
    lab = gateways
    c1, c2 = lab.gateways
    bring_up(*lab.gateways)
    with (
        present(c1, "address add 10.44.0.1/32 dev lo"),
        present(c2, "address add 10.45.0.1/32 dev lo"),
        lab.capture() as wire,
    ):
        done = c1.run("ping", "-c", "2", "-I", "10.44.0.1", "10.45.0.1", check=False)
    assert done.returncode == 0
    assert_encrypted(wire)


def test_in_any_order(gateways: Lab) -> None:
    """The end that initiates connects first, the other end some seconds later."""
    c1, c2 = gateways.gateways
    with c2.popen(PROGRAM, "connect", FILE) as first:
        until(lambda: "IKE_SA_INIT" in c2.whack("--showstates"), "c2 initiating")
        assert run(c1, "connect", FILE).returncode == 0
        assert first.communicate(timeout=90)[0].startswith("the cable to cluster1 is up")


def test_without_waiting(gateways: Lab) -> None:
    """connect returns at once on each end, and the cable comes up later."""
    lab = gateways
    for gateway in lab.gateways[::-1]:
        done = run(gateway, "connect", FILE, "--no-wait")
        assert done.returncode == 0, done.stderr
        assert "didn't wait for SAs" in done.stdout
    until(lambda: all(child_sas(gateway) for gateway in lab.gateways), "Child SAs", timeout=60)
    until(lambda: ping(lab.gateways[0]).returncode == 0, "ping", timeout=60)


def test_a_new_key_and_a_directory_that_everybody_can_write_to(gateways: Lab) -> None:
    """connect refuses a directory where others can put secrets files; no log has the key."""
    c1, c2 = gateways.gateways
    c1.path(PSK_FILE).unlink()
    assert run(c1, "secret", "new", PSK_FILE).returncode == 0
    key = c1.read(PSK_FILE).strip()
    c2.write(PSK_FILE, f"{key}\n")
    c1.run("chmod", "o+w", "/etc/ipsec.d")
    before = c1.snapshot()
    done = run(c1, "connect", FILE)
    assert done.returncode == 3
    assert done.stderr == (
        "cablectl: /etc/ipsec.d can be written by everybody\n  try: chmod go-w /etc/ipsec.d\n"
    )
    assert c1.snapshot() == before
    c1.run("chmod", "go-w", "/etc/ipsec.d")
    bring_up(c1, c2)
    for gateway in (c1, c2):
        for form in (key, key.encode().hex()):
            assert form not in gateway.read(PLUTO_LOG) + run(gateway, "plan", FILE).stdout


def test_a_wrong_psk(gateways: Lab) -> None:
    """connect fails on either end while the other end waits; Ctrl-C there undoes everything."""
    lab = gateways
    prepare(lab.gateways[0], psk="another key than that of the other end")
    before = [gateway.snapshot() for gateway in lab.gateways]
    with lab.capture() as wire:
        for gateway, peer in (lab.gateways, lab.gateways[::-1]):
            with peer.popen(PROGRAM, "connect", FILE) as waiting:
                until_it_waits(waiting)
                done = run(gateway, "connect", FILE, "--timeout", "5")
                waiting.send_signal(signal.SIGINT)
                assert waiting.wait(60) == 130
            assert done.returncode == 1, done.stderr
            assert "within 5 s: authentication failed" in done.stderr
            assert "put the same pre-shared key on both ends" in done.stderr
            assert "another key" not in done.stderr
            assert [end.snapshot() for end in lab.gateways] == before
    assert wire.summary()["overlay"].frames == 0


def test_a_peer_that_never_answers(gateways: Lab) -> None:
    """connect fails on either end: the one that initiates, and the one that waits."""
    for gateway, peer in (gateways.gateways, gateways.gateways[::-1]):
        peer.ip("link set eth0 down")
        before = gateway.snapshot()
        done = run(gateway, "connect", FILE, "--timeout", "5")
        peer.ip("link set eth0 up", "route replace default via 172.18.255.254")
        assert done.returncode == 4, done.stderr
        assert "within 5 s: no answer from the peer" in done.stderr
        assert gateway.snapshot() == before


def test_a_peer_that_has_no_such_cable(gateways: Lab) -> None:
    c2 = gateways.gateways[1]
    before = c2.snapshot()
    done = run(c2, "connect", FILE, "--timeout", "5")
    assert done.returncode == 1, done.stderr
    assert "run connect on the peer with the same file" in done.stderr
    assert c2.snapshot() == before


def test_a_dead_pluto(gateways: Lab) -> None:
    c1 = gateways.gateways[0]
    before = c1.snapshot()
    c1.kill_pluto()
    dead = c1.snapshot()
    done = run(c1, "connect", FILE)
    assert done.returncode == 3
    assert done.stderr.startswith("cablectl: pluto isn't running")
    assert c1.snapshot() == dead
    c1.start_pluto()
    assert c1.snapshot() == before


def test_teardown_after_pluto_was_killed(gateways: Lab) -> None:
    lab = gateways
    c1 = lab.gateways[0]
    before = c1.snapshot()
    bring_up(*lab.gateways)
    c1.kill_pluto()
    done = run(c1, "teardown", FILE)
    assert done.returncode == 0, done.stderr
    c1.start_pluto()
    assert c1.snapshot() == before
    assert run(c1, "teardown", FILE).stdout.startswith("nothing to do")


def test_teardown_or_connect_after_a_killed_connect(gateways: Lab) -> None:
    c1 = gateways.gateways[0]
    before = c1.snapshot()
    kill_while_it_waits(c1)
    assert c1.snapshot() != before
    assert run(c1, "teardown", FILE).returncode == 0
    assert c1.snapshot() == before
    kill_while_it_waits(c1)
    bring_up(*gateways.gateways)
    assert ping(c1).returncode == 0


def kill_while_it_waits(gateway: Gateway) -> None:
    with gateway.popen(PROGRAM, "connect", FILE) as process:
        until_it_waits(process)
        process.kill()


def test_connect_starts_pluto_by_systemctl(gateways: Lab) -> None:
    """The host looks as if it ran systemd; its systemctl runs the commands of ipsec.service."""
    lab = gateways
    c1 = lab.gateways[0]
    before = c1.snapshot()
    c1.stop_pluto()
    c1.path("/run/systemd/system").mkdir(parents=True)
    c1.write("/etc/bin/systemctl", SYSTEMCTL, mode=0o755)
    with lab.gateways[1].popen(PROGRAM, "connect", FILE) as other:
        path = f"/etc/bin:{Path(PROGRAM).parent}:/usr/sbin:/usr/bin:/sbin:/bin"
        done = c1.run(PROGRAM, "connect", FILE, check=False, env={"PATH": path}, timeout=150)
        assert done.returncode == 0, done.stderr
        assert "systemctl start ipsec" in done.stderr
        assert done.stdout.endswith("; pluto was started\n")
        other.communicate(timeout=90)
    tear_down(*lab.gateways)
    assert c1.snapshot() == before


SYSTEMCTL = """#!/bin/sh
unit=/lib/systemd/system/ipsec.service
case "$*" in
    "cat ipsec.service") exec cat "$unit" ;;
    "start ipsec")
        sed -n 's/^ExecStartPre=//p' "$unit" | grep -v nflog | sh -e || exit 1
        $(sed -n 's/^ExecStart=//p' "$unit" | sed 's/ --nofork//') || exit 1
        until ipsec whack --status >/dev/null; do sleep 0.1; done ;;
    *) exit 1 ;;
esac
"""


def test_another_programs_device_stays(gateways: Lab) -> None:
    """If another program's device has the cable's name, connect refuses and changes nothing."""
    c1 = gateways.gateways[0]
    with present(c1, "link add vxlan-tunnel type vxlan id 1000 dstport 4790 local 172.18.0.8"):
        before = c1.snapshot()
        done = run(c1, "connect", FILE)
        assert done.returncode == 3
        assert "vxlan-tunnel exists, but cablectl didn't make it" in done.stderr
        assert run(c1, "teardown", FILE).returncode == 0
        assert c1.snapshot() == before


def test_a_failing_step_is_shown_and_undone(gateways: Lab) -> None:
    """A route of another file's cable makes a step fail: it stays, and all steps are undone.

    It is the last step but one, when the overlay is up and in use on both ends.
    """
    c1, c2 = gateways.gateways
    with present(c1, "route add blackhole 10.45.0.0/16 table 24141 metric 100 proto 241"):
        before = c1.snapshot()
        with gateways.capture() as wire, c2.popen(PROGRAM, "connect", FILE) as peer:
            done = run(c1, "connect", FILE)
            peer.communicate(timeout=90)
            c2.run("ping", "-c", "3", "-i", "0.2", "-W", "1", VTEP["c1"], check=False)
        assert done.returncode == 1
        assert "$ ip route add 10.45.0.0/16 via 241.18.0.7" in done.stderr
        assert "RTNETLINK answers: File exists" in done.stderr
        assert c1.snapshot() == before
        assert_encrypted(wire)


@contextmanager
def present(gateway: Gateway, command: str) -> Iterator[None]:
    """Add an object of another program by an `ip` command, and delete it at the end."""
    gateway.ip(command)
    try:
        yield
    finally:
        gateway.ip(command.replace(" add ", " delete "))


def test_a_service_name_that_the_host_does_not_know(gateways: Lab) -> None:
    c1 = gateways.gateways[0]
    prepare(c1, "proposal")
    before = c1.snapshot()
    done = run(c1, "connect", FILE)
    assert done.returncode == 3
    assert "try: write port: 4789" in done.stderr
    assert c1.snapshot() == before


def test_the_script_does_the_same(gateways: Lab) -> None:
    """`plan --dry-run | sh` on both ends brings the cable up; `--action teardown` removes it."""
    lab = gateways
    before = [gateway.snapshot()["files"] for gateway in lab.gateways]
    with lab.capture() as wire:
        script = f"{shlex.quote(PROGRAM)} plan {FILE} --dry-run | sh"
        running = [gateway.popen("sh", "-c", script) for gateway in lab.gateways]
        for process in running:
            out, err = process.communicate(timeout=150)
            assert process.returncode == 0, out + err
        for gateway in lab.gateways:
            assert child_sas(gateway) == connections(gateway)
            assert ping(gateway).returncode == 0
            assert run(gateway, "connect", FILE).stdout.startswith("nothing to do")
        for gateway in lab.gateways:
            gateway.run(
                "sh", "-c", f"{shlex.quote(PROGRAM)} plan {FILE} --dry-run --action teardown | sh"
            )
            assert run(gateway, "teardown", FILE).stdout.startswith("nothing to do")
    assert_encrypted(wire)
    assert [gateway.snapshot()["files"] for gateway in lab.gateways] == before


def test_a_script_that_fails_says_where_and_what_is_left(gateways: Lab) -> None:
    c1 = gateways.gateways[0]
    script = f"{shlex.quote(PROGRAM)} plan {FILE} --dry-run | sh"
    c1.run("mv", PSK_FILE, f"{PSK_FILE}.away")
    before = c1.snapshot()
    try:
        done = c1.run("sh", "-c", script, check=False)
        assert done.returncode == 3
        assert "no key of 1 to 900 bytes" in done.stderr
        assert "cablectl: the phase secret failed with exit code 3" in done.stderr
        assert "also the guard: nft delete table inet cablectl_vxlan-tunnel" in done.stderr
        assert "try: cablectl teardown FILE" in done.stderr
        assert run(c1, "teardown", FILE).returncode == 0
        assert c1.snapshot()["nftables"] == before["nftables"]
        c1.stop_pluto()
        done = c1.run("sh", "-c", script, check=False)
        assert (done.returncode, done.stdout) == (3, "")
        assert done.stderr == "cablectl: pluto isn't running; try: sudo systemctl start ipsec\n"
        assert c1.snapshot()["nftables"] == before["nftables"]
    finally:
        c1.run("mv", f"{PSK_FILE}.away", PSK_FILE)
        c1.start_pluto()
