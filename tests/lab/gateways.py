"""Gateways with Libreswan, and the switch between them.

Needs root and a kernel with ESP: `tests/lab/boot` gives both.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Self

from cablectl.libreswan import dialects
from cablectl.libreswan.dialects import Version

from .releases import Installation, installations
from .rooms import LabError, Process, Room, until
from .wire import Capture

PROBE = f"src 192.0.2.1 dst 192.0.2.2 proto esp spi 0x100 aead rfc4106(gcm(aes)) 0x{'5a' * 20} 128"
PLUTO_LOG = "/run/pluto/pluto.log"

# What a teardown must restore. whack may fail: without pluto no connection is loaded.
SNAPSHOT = {
    "links": "ip -j link",
    "addresses": "ip -j address",
    "rules": "ip rule; ip -6 rule",
    "routes": "ip route show table all",  # of both families
    "policies": "ip xfrm policy list nosock",  # sockets' policies are pluto's own
    "states": "ip xfrm state list nokeys",
    "fdb": "bridge -j fdb",
    "nftables": "nft -s list ruleset",  # without counters
    "neighbours": "ip neigh show nud permanent",
    "connections": "ipsec whack --status",
}
MASQUERADE = """
table ip lab {
    chain out {
        type nat hook postrouting priority srcnat;
        oifname "eth0" masquerade random
    }
}
"""
FILES = ("/etc/ipsec.d", "/etc/cablectl", "/run/cablectl")
# `ipsec _stackmanager start`, or the first gre link, loads a module, which makes a fallback device
# in every network namespace. No teardown can delete this device.
FALLBACK = re.compile("(gre|gretap|erspan|ip6gre|ip_vti|ip6_vti|tunl|ip6tnl|sit)0")
# Lines of an SA that change while it is used: sequence numbers, and the time of the last use.
COUNTERS = re.compile("^\t(anti-replay|lastused| ).*\n", re.MULTILINE)
# A line that a larval SA lacks: it has no keys yet. The kernel keeps one with SPI 0 while a packet
# waits for pluto to negotiate an SA, and one for an SPI that pluto has reserved. pluto 4.0 doesn't
# remove its reservation when a negotiation ends otherwise. Both expire after 30 s.
KEYED = re.compile("^\t(aead|enc|auth-trunc) ", re.MULTILINE)


class Gateway(Room):
    """A host with `eth0`, a default route, and /etc, /var, /run and /tmp of its own."""

    def __init__(self, name: str, libreswan: Installation | None = None) -> None:
        at = libreswan or installations()["4.10"]
        super().__init__(name, at.root, at.layer, at.prefix)
        # The path of `ipsec`'s directory comes first, since a layer may have a second `ipsec`.
        path = f"{at.prefix}/sbin:{os.environ['PATH']}"
        self._environment = {"PATH": path} if at.prefix else {}

    def popen(self, *argv: str, env: Mapping[str, str] | None = None) -> Process:
        """Start a program in the room, as Room does, with the gateway's own `ipsec` in the PATH."""
        return super().popen(*argv, env={**self._environment, **(env or {})})

    def version(self) -> str:
        """Return the line that `ipsec --version` prints, such as Libreswan 5.2."""
        return self.run("ipsec", "--version").stdout.strip()

    def release(self) -> Version:
        """Return the release of `version`; UsageError if cablectl doesn't accept it."""
        return dialects.parse_version(self.version())

    def write(self, path: str, text: str, mode: int = 0o600) -> None:
        """Write a file, and the directories that it needs."""
        file = self.path(path)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode)
        file.chmod(mode)
        file.write_text(text)

    def read(self, path: str) -> str:
        """Return a file's text, "" if the file doesn't exist."""
        file = self.path(path)
        return file.read_text() if file.exists() else ""

    @contextmanager
    def holds(self, address: str) -> Iterator[None]:
        """Give the gateway one more address, which stands for a host of the gateway's cluster."""
        host = f"{address}/{128 if ':' in address else 32}"
        self.ip(f"address add {host} dev lo")
        try:
            yield
        finally:
            self.ip(f"address delete {host} dev lo")

    def whack(self, *argv: str, check: bool = True, timeout: float = 60.0) -> str:
        """Run `ipsec whack`; return standard output, then standard error."""
        result = self.run("ipsec", "whack", *argv, check=check, timeout=timeout)
        return result.stdout + result.stderr

    def start_pluto(self, device: str = "eth0") -> None:
        """Start pluto, and wait until pluto listens on a device; LabError, with pluto's log."""
        if not self.path("/var/lib/ipsec/nss/cert9.db").exists():
            self.run("ipsec", "initnss")
        self.path("/run/pluto/pluto.pid").unlink(missing_ok=True)  # a killed pluto leaves it behind
        self.run("ipsec", "pluto", "--config", "/etc/ipsec.conf", "--logfile", PLUTO_LOG)
        try:
            listens = f" {device} "
            until(lambda: listens in self.whack("--status", check=False), f"pluto on {device}")
        except LabError as error:
            raise LabError(f"{self.name}: {error}\n{self.read(PLUTO_LOG)}") from None

    def stop_pluto(self) -> None:
        """Stop pluto as `ipsec stop` does."""
        self.whack("--shutdown")
        self.await_end()

    def kill_pluto(self) -> None:
        """Kill pluto with SIGKILL, so that policies, SAs and the PID file are left behind."""
        self.run("kill", "-KILL", self.read("/run/pluto/pluto.pid").strip())
        self.await_end()

    def await_end(self) -> None:
        until(lambda: self.run("pidof", "pluto", check=False).returncode != 0, "pluto's end")

    def snapshot(self) -> dict[str, str]:
        """Return what a teardown must restore, as text by kind (SNAPSHOT, files)."""
        script = "".join(f"printf '\\0'; {command}\n" for command in SNAPSHOT.values())
        parts = self.run("sh", "-c", f"exec 2>/dev/null\n{script}true").stdout.split("\0")
        snapshot = dict(zip(SNAPSHOT, parts[1:], strict=True))
        for kind in ("links", "addresses", "fdb"):
            links = json.loads(snapshot[kind])
            kept = (link for link in links if not FALLBACK.fullmatch(link["ifname"]))
            snapshot[kind] = "\n".join(json.dumps(link) for link in kept)
        states = re.split("^(?=src )", COUNTERS.sub("", snapshot["states"]), flags=re.MULTILINE)
        snapshot["states"] = "".join(filter(KEYED.search, states))
        names = re.findall(r'^(?:000 )?("[^"]+")', snapshot["connections"], re.MULTILINE)
        snapshot["connections"] = "\n".join(sorted(set(names)))
        files = [self._describe(file) for top in FILES for file in self.path(top).rglob("*")]
        return {**snapshot, "files": "\n".join(sorted(files))}

    def _describe(self, file: Path) -> str:
        """Return path, mode and digest of a file; a directory has no digest."""
        digest = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else "-"
        return f"/{file.relative_to(self.root)} {file.lstat().st_mode:o} {digest}"


class Lab:
    """A switch, and the gateways on it."""

    def __init__(self) -> None:
        self.gateways: list[Gateway] = []

    def __enter__(self) -> Self:
        with ExitStack() as rooms:
            self.switch = rooms.enter_context(closing(Room("switch")))
            try:
                self.switch.ip(f"xfrm state add {PROBE}", "xfrm state flush")
            except LabError as error:
                raise LabError(f"no ESP here, run the lab by tests/lab/boot: {error}") from None
            self.switch.ip("link add br0 type bridge mcast_snooping 0", "link set br0 up")
            self._rooms = rooms.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._rooms.close()

    def gateway(
        self,
        name: str,
        address: str,
        address6: str = "2001:db8::1/64",
        release: str = "4.10",
    ) -> Gateway:
        """Add a gateway with an address like 172.18.0.8/16; the switch is the default router.

        `release` is a key of `installations`.
        """
        interface, interface6 = ipaddress.ip_interface(address), ipaddress.ip_interface(address6)
        router, router6 = f"{interface.network[-2]}", f"{interface6.network[-2]}"
        gateway = self._rooms.enter_context(closing(Gateway(name, installations()[release])))
        self.gateways.append(gateway)
        self.switch.ip(
            f"address replace {router}/{interface.network.prefixlen} dev br0",
            f"address replace {router6}/{interface6.network.prefixlen} dev br0 nodad",
            f"link add {name} type veth peer name eth0 netns {gateway.pid}",
            f"link set {name} master br0 gso_max_segs 1 up",
        )
        gateway.ip(
            "link set lo up",
            # Without segmentation offload, no frame is longer than the MTU, as on a real wire.
            "link set eth0 gso_max_segs 1 up",
            f"address add {interface} dev eth0",
            f"address add {interface6} dev eth0 nodad",
            f"route add default via {router}",
            f"route add default via {router6}",
        )
        return gateway

    def hidden(self, name: str, address: str, box: Gateway) -> Gateway:
        """Add a gateway with an address like 192.168.1.2/24 behind `box`, which masquerades."""
        gateway = self.behind(name, box, address)
        box.run("nft", "--file", "-", input=MASQUERADE)
        return gateway

    def behind(self, name: str, box: Gateway, *addresses: str, release: str = "4.10") -> Gateway:
        """Add a host with addresses like 10.44.0.2/16 behind `box`, which forwards.

        All hosts behind a box share one LAN, whose router the box is.
        """
        host = self._rooms.enter_context(closing(Gateway(name, installations()[release])))
        if box.run("ip", "link", "show", "inside", check=False).returncode:
            box.ip("link add inside type bridge mcast_snooping 0", "link set inside up")
        box.ip(
            f"link add {name} type veth peer name eth0 netns {host.pid}",
            f"link set {name} master inside gso_max_segs 1 up",
        )
        host.ip("link set lo up", "link set eth0 gso_max_segs 1 up")
        for interface in map(ipaddress.ip_interface, addresses):
            router, nodad = f"{interface.network[1]}", "nodad" if interface.version == 6 else ""
            box.ip(f"address replace {router}/{interface.network.prefixlen} dev inside {nodad}")
            host.ip(f"address add {interface} dev eth0 {nodad}", f"route add default via {router}")
        box.run("sysctl", "--quiet", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        return host

    def capture(self, overlay_port: int = 4789, *, esp_in_udp: bool = True) -> Capture:
        """Return a capture of the switch's frames, a context manager."""
        return Capture(self.switch, self.gateways, overlay_port, esp_in_udp=esp_in_udp)


@contextmanager
def two_gateways(*releases: str) -> Iterator[Lab]:
    """Make c1 and c2, each with its Libreswan."""
    with Lab() as lab:
        for name, last, release in zip(("c1", "c2"), (8, 7), releases, strict=True):
            lab.gateway(name, f"172.18.0.{last}/16", f"2001:db8::{last}/64", release)
        yield lab
