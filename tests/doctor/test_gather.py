"""Evidence from a host: its tools are stand-ins, the peer's ports are sockets of loopback."""

import json
import os
import socket
import struct
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path

import pytest
from pytest_subprocess import FakeProcess

from cablectl.doctor.collect import bug_report, diagnosis, ends, peer
from cablectl.doctor.collect.ends import collect_ends
from cablectl.doctor.collect.own_host import collect_host
from cablectl.doctor.evidence import Presence, Reply
from cablectl.doctor.finding import FindingState
from cablectl.host import ipsec_state, kernel, pluto_log, pluto_process, probe, reading
from cablectl.libreswan import secrets_file
from cablectl.linux import guard
from cablectl.linux.sockets import Process
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from tests.support.captures import (
    FIREWALL_LISTING,
    FIREWALL_TEXT,
    IPTABLES_SAVED,
    LEGACY_SAVED,
    SOCKETS,
)
from tests.support.commands import IPTABLES
from tests.support.documents import shaped
from tests.support.gateway import KEY, LINK
from tests.support.ike import SA, message

NAME = "submariner-cable-cluster2-172-18-0-7"
ETH0 = {
    "ifname": "eth0",
    "flags": ["UP"],
    "mtu": 1500,
    "addr_info": [{"local": "172.18.0.8", "prefixlen": 16}],
}


class Tools:
    """What the tools of a host print: here what is told, else what the facts' own tests have."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._told: dict[tuple[str, ...], subprocess.CompletedProcess[str]] = {}
        self._else = probe.run
        monkeypatch.setattr(probe, "run", self._run)

    def tell(self, command: str, stdout: str = "", stderr: str = "", code: int = 0) -> None:
        argv = tuple(command.split())
        self._told[argv] = subprocess.CompletedProcess(argv, code, stdout, stderr)

    def _run(
        self, *argv: str, given: str = "", shown: Argv = ()
    ) -> subprocess.CompletedProcess[str]:
        if argv in self._told:
            return self._told[argv]
        return self._else(*argv, given=given, shown=shown)


@pytest.fixture
def up(gateway: FakeProcess, here: Cable, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Tools:
    """The gateway of the facts' own tests, with all that doctor asks of it besides."""
    gateway.keep_last_process(True)
    tools = Tools(monkeypatch)
    Path(secrets_file.path(here)).write_bytes(secrets_file.content(here, KEY.encode()))
    monkeypatch.setattr(ipsec_state, "guard_of", guard.made)
    monkeypatch.setattr(kernel, "has_code", lambda name: name == "vxlan")
    monkeypatch.setattr(peer, "ask", lambda *_: {4500: Reply(answer="SA")})
    monkeypatch.setattr(ends, "_pings", lambda *_: None)  # nothing is sent from here
    monkeypatch.setattr(
        "cablectl.doctor.collect.own_host._daemons", lambda: ()
    )  # whatever runs here
    monkeypatch.setattr(ends, "SYSCTL", str(tmp_path))
    monkeypatch.setattr(pluto_process, "ROOT", os.getuid())  # who runs the tests
    monkeypatch.setattr(pluto_process, "PID", tmp_path / "pluto.pid")
    monkeypatch.setattr(pluto_log, "CONFIG", tmp_path / "ipsec.conf")
    pluto_log.CONFIG.write_text(f"logfile={tmp_path}/pluto.log")
    (tmp_path / "pluto.log").write_text(f'"{NAME}-0" #1: 0xabcdef PSK {KEY}\n"other" #2: x\n')
    settings = {"all/rp_filter": 1, "eth0/rp_filter": 0, "vxlan-tunnel/rp_filter": 2}
    settings |= {"eth1/forwarding": 0, "vxlan-tunnel/forwarding": 1}
    for name, value in settings.items():
        file = tmp_path / "ipv4" / "conf" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{value}\n")
    answers = {
        "ip -N -d -j address": json.dumps([ETH0, LINK]),
        "ip -j route get 10.44.0.1": '[{"dev": "eth1"}]',
        "ip -s -j link show dev vxlan-tunnel": '[{"stats64": {"rx": {"packets": 7}}}]',
        "ss -H -u -l -n -p": SOCKETS,
        "nft -j list ruleset": json.dumps(FIREWALL_LISTING),
        "nft -a list ruleset": FIREWALL_TEXT,
        **dict.fromkeys(IPTABLES, ""),
        "iptables-save": IPTABLES_SAVED,
        "iptables-legacy-save": LEGACY_SAVED,
    }
    for command, answer in answers.items():
        tools.tell(command, answer)
    return tools


@pytest.mark.usefixtures("up")
class TestHost:
    def test_what_concerns_every_cable(self) -> None:
        seen = collect_host(["esp4", "vxlan", "geneve"])
        assert seen.root
        assert seen.libreswan == "Libreswan 4.10\n"
        assert "172.18.0.8:4500" in seen.listening
        assert seen.pluto_error == ""
        assert seen.cables == (NAME,)
        assert seen.own_cables == frozenset({"cluster2-172-18-0-7"})
        assert seen.sockets[0].holder == Process("pluto", 17)
        assert seen.modules == {
            "esp4": Presence.LOADED,
            "vxlan": Presence.LOADED,
            "geneve": Presence.MISSING,
        }
        assert seen.links.keys() == {"eth0", "vxlan-tunnel"}
        assert seen.runs == ()
        assert seen.synchronised in (True, False)  # the kernel does say

    def test_its_packet_filters(self) -> None:
        """iptables' own tables are read from iptables, of both kinds, and no table twice."""
        chains = collect_host([]).firewall
        assert chains is not None
        assert [f"{each.table} {each.name}" for each in chains] == [
            *(f"iptables filter {name}" for name in ("INPUT", "FORWARD", "OUTPUT")),
            *(f"iptables-legacy filter {name}" for name in ("INPUT", "FORWARD", "OUTPUT", "X")),
            *(f"table inet filter {name}" for name in ("input", "wan", "deep")),
        ]

    def test_where_iptables_is_the_old_one_it_is_read_once(self, up: Tools) -> None:
        up.tell("iptables-save", LEGACY_SAVED)
        chains = collect_host([]).firewall
        assert chains is not None
        assert [each.table for each in chains].count("iptables-legacy filter") == 4

    def test_a_pluto_that_says_no(self, up: Tools) -> None:
        up.tell("ipsec whack --status", stderr="whack: is running?\nx", code=1)
        seen = collect_host([])
        assert (seen.pluto_error, seen.listening, seen.cables) == ("whack: is running?", (), ())

    def test_who_isnt_root_sees_less(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        seen = collect_host([])
        assert (seen.root, seen.firewall, seen.pluto_error, seen.listening) == (False, None, "", ())
        assert seen.sockets


@pytest.mark.usefixtures("up")
class TestEnds:
    def test_what_concerns_the_cable(self, here: Cable, tmp_path: Path) -> None:
        seen = collect_ends(here, "cable.yaml", collect_host([]).links)
        assert (seen.local_device, seen.route.device, seen.route.mtu) == ("eth0", "eth0", 1500)
        assert seen.subnet_devices == {"10.44.0.0/16": "eth1"}
        assert seen.rp_filters == {"eth0": 1, "vxlan-tunnel": 2}  # the larger of all and its own
        assert seen.forwarding == {"vxlan-tunnel": True, "eth1": False}
        assert seen.replies == {4500: Reply(answer="SA")}
        assert seen.received == 7
        assert seen.facts == reading.facts(here)
        assert seen.key
        owner = f"user {os.getuid()}" if os.getuid() else "root"
        assert seen.key.place == f"{tmp_path}/psk, mode 0600, owned by {owner}"
        assert (seen.key.problems, seen.key.warnings) == ((), ())

    def test_the_log_without_what_may_be_a_key(self, here: Cable) -> None:
        logged = collect_ends(here, "", collect_host([]).links).log
        assert logged == {f"{NAME}-0": f'"{NAME}-0" #1: 0x*** PSK ***', f"{NAME}-1": ""}

    def test_no_route(self, here: Cable, up: Tools) -> None:
        why = "RTNETLINK answers: Network is unreachable\n"
        for command in ("ip -j -force -batch -", "ip route get 172.18.0.7 from 172.18.0.8"):
            up.tell(command, stderr=why, code=2)
        seen = collect_ends(here, "", collect_host([]).links)
        assert (seen.route.error, seen.replies) == (why.strip(), {})

    def test_whatever_can_be_read_without_root(
        self, here: Cable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        seen = collect_ends(here, "", collect_host([]).links)
        assert (seen.facts, seen.facts_error) == (None, "only root can read and change a cable")
        assert (seen.key, seen.offload) == (None, None)
        assert seen.replies

    def test_from_evidence_to_findings(self, here: Cable) -> None:
        """The filters are those of the captures; there is neither nf_tables nor a pluto."""
        found = diagnosis.findings(here, "cable.yaml")
        told = {each.check for each in found if each.state is FindingState.FAIL}
        assert {"kernel", "firewall", "pluto"} <= told
        assert {"address", "route", "peer", "key", "cable"}.isdisjoint(told)
        assert {each.check for each in diagnosis.findings(None, "")} < {e.check for e in found}


class TestWhomIsAsked:
    """Nobody whose address isn't known; not through a cable that would take the question along."""

    @pytest.mark.parametrize(
        ("shape", "loaded", "asked"),
        [
            ("transport vxlan v4", True, True),
            ("transport none v4", False, True),
            ("transport none v4", True, False),
            ("tunnel v4", True, True),
            ("tunnel v4 inside", False, True),
            ("tunnel v4 inside", True, False),
            ("tunnel v4 inside nats", True, True),
            ("tunnel v4 server", True, False),
            ("none vxlan v4", True, False),
        ],
    )
    def test_by_shape(
        self, monkeypatch: pytest.MonkeyPatch, shape: str, loaded: bool, asked: bool
    ) -> None:
        from tests.support.standing import facts

        # Seen from cluster2, which is the server.
        cable = shaped(shape, "cluster2" if "server" in shape else "cluster1")
        monkeypatch.setattr(peer, "ask", lambda *_: {4500: Reply()})
        assert bool(ends._replies(cable, facts(cable, "up" if loaded else "absent"))) == asked


class TestPeer:
    """Real datagrams, on loopback; no port there is 500."""

    @pytest.fixture(autouse=True)
    def hasty(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(peer, "PATIENCE", (0.05, 0.1))

    def ask(self, *ports: int) -> dict[int, Reply]:
        local = ip_address("127.0.0.1")
        return peer.ask(local, local, ports)

    def test_an_answer_a_refusal_and_silence(self) -> None:
        with bound(answering) as there, bound(silent) as mute:
            refused = closed()
            assert self.ask(there, mute, refused) == {
                there: Reply(answer="SA"),
                mute: Reply(),
                refused: Reply(refused=True),
            }

    def test_it_asks_again(self) -> None:
        with bound(answering_the_second) as there:
            assert self.ask(there) == {there: Reply(answer="SA")}

    def test_what_answers_something_else_is_silent(self) -> None:
        with bound(babbling) as there:
            assert self.ask(there) == {there: Reply()}

    def test_from_an_address_that_isnt_here(self) -> None:
        replies = peer.ask(ip_address("192.0.2.1"), ip_address("127.0.0.1"), [4500])
        assert replies == {4500: Reply(error="Cannot assign requested address")}


Answering = Callable[[socket.socket], None]


@contextmanager
def bound(answer: Answering) -> Iterator[int]:
    """Yield a port of loopback where somebody answers."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        thread = threading.Thread(target=answer, args=(server,), daemon=True)
        thread.start()
        yield server.getsockname()[1]
        thread.join()


def reply_to(request: bytes) -> bytes:
    """Return the answer of somebody who would go on: marked, since this port isn't 500."""
    assert request[:4] == bytes(4)
    spi = request[4:12]
    return bytes(4) + spi + message((SA, b"x" * 40))[8:]


def answering(server: socket.socket) -> None:
    request, sender = server.recvfrom(65535)
    server.sendto(reply_to(request), sender)


def answering_the_second(server: socket.socket) -> None:
    server.recvfrom(65535)
    answering(server)


def babbling(server: socket.socket) -> None:
    _, sender = server.recvfrom(65535)
    server.sendto(struct.pack("!I", 0) + b"not IKE at all, of whatever length", sender)


def silent(server: socket.socket) -> None:
    server.recvfrom(65535)


def closed() -> int:
    """Return a port that nobody has."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port


@pytest.mark.usefixtures("up")
class TestReport:
    def test_its_texts(self, gateway: FakeProcess) -> None:
        gateway.allow_unregistered(True)  # the rest fails, and says so
        texts = bug_report.texts()
        assert texts["pluto.log"] == f'"{NAME}-0" #1: 0x*** PSK ***\n"other" #2: x\n'
        assert "$ ipsec whack --status\n000 using kernel interface: xfrm" in texts["pluto.txt"]
        assert "$ ip -d -s xfrm state list nokeys\n" in texts["xfrm.txt"]
        assert "exit code 99" in texts["xfrm.txt"]
        assert texts["versions.txt"].startswith("cablectl ")

    def test_the_key_in_no_form(self, here: Cable) -> None:
        members = {"a": f"before {KEY} after", "b": f"0x{KEY.encode().hex()}", "c": "else"}
        masked = bug_report.without_keys(members, here)
        assert masked == {"a": "before *** after", "b": "0x***", "c": "else"}
        assert bug_report.without_keys(members, None) == members
