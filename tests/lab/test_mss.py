"""TCP between hosts behind the gateways, which send no ICMP: it passes only with a smaller MSS."""

from __future__ import annotations

import json
from itertools import product

import pytest

from cablectl.model.wishes import OVERLAYS
from tests.support.documents import FAMILIES, document

from .cable import FILE, PSK, PSK_FILE, bring_up, run, tear_down
from .extent import chosen
from .gateways import Gateway, Lab
from .rooms import until
from .traffic import changes

pytestmark = pytest.mark.lab

SHAPES = (
    *(f"tunnel {family}" for family in FAMILIES),
    *(f"transport {kind} {family}" for kind, family in product(OVERLAYS, FAMILIES)),
    "none vxlan v4",
)
HOSTS = {"v4": ("10.44.0.2", "10.45.0.2"), "v6": ("2001:db8:44::2", "2001:db8:45::2")}
BYTES = 3_000_000
PORT = 7777
# Drops what the gateways would tell the hosts about the size of packets (RFC 1191, RFC 8201).
BLACK_HOLE = """
table inet black_hole {
    chain out {
        type filter hook output priority 0;
        icmp type destination-unreachable drop
        icmpv6 type packet-too-big drop
    }
}
"""
# The server sends back as much as it has received. Both print how many bytes they received.
SERVER = f"""
import socket, sys
server = socket.create_server((sys.argv[1], {PORT}), family=socket.AF_INET6 if ":" in sys.argv[1]
                              else socket.AF_INET)
peer, _ = server.accept()
peer.settimeout(20)
received = 0
try:
    while data := peer.recv(65536):
        received += len(data)
    peer.sendall(bytes(received))
except OSError:
    pass
print(received)
"""
CLIENT = f"""
import socket, sys
received = 0
try:
    source = (sys.argv[3], 0) if sys.argv[3] else None
    peer = socket.create_connection((sys.argv[1], {PORT}), float(sys.argv[2]), source)
    peer.sendall(bytes({BYTES}))
    peer.shutdown(socket.SHUT_WR)
    while data := peer.recv(65536):
        received += len(data)
except OSError:
    pass
print(received)
"""


@pytest.fixture(scope="module")
def hosts(lab: Lab) -> tuple[Lab, Gateway, Gateway]:
    """Two gateways that drop their own ICMP errors, and a host behind each of them."""
    behind = []
    for gateway, number in zip(lab.gateways[:2], (44, 45), strict=True):
        addresses = (f"10.{number}.0.2/16", f"2001:db8:{number}::2/48")
        behind.append(lab.behind(f"host{number}", gateway, *addresses))
        gateway.run("nft", "--file", "-", input=BLACK_HOLE)
    first, second = behind
    return lab, first, second


def transferred(
    client: Gateway, server: Gateway, address: str, patience: int, source: str = ""
) -> tuple[int, int]:
    """Send BYTES there and back; return how many bytes the server and the client received.

    The client gives up if nothing passes for `patience` seconds.
    """
    with server.popen("python3", "-c", SERVER, address) as serving:
        try:
            listening = f":{PORT} "
            until(lambda: listening in server.run("ss", "-Hltn").stdout, "the server")
            done = client.run("python3", "-c", CLIENT, address, str(patience), source, timeout=120)
            there = "0"
            if int(done.stdout) == BYTES:
                there, _ = serving.communicate(timeout=30)
        finally:
            serving.kill()
    return int(there), int(done.stdout)


def segments(gateway: Gateway) -> list[str]:
    """Return the tables of this gateway that limit segments."""
    listing = json.loads(gateway.run("nft", "-j", "list", "tables").stdout)["nftables"]
    names = [item["table"]["name"] for item in listing if "table" in item]
    return [name for name in names if name.startswith("cablectl-mss_")]


@pytest.mark.parametrize("shape", chosen(SHAPES, 1))
def test_tcp_passes_where_icmp_does_not(hosts: tuple[Lab, Gateway, Gateway], shape: str) -> None:
    lab, first, second = hosts
    c1, c2 = lab.gateways[:2]
    source, target = HOSTS["v6" if "v6" in shape else "v4"]
    for gateway in (c1, c2):
        gateway.write(FILE, f"{document(shape)}mss: off\n")
        gateway.write(PSK_FILE, f"{PSK}\n")
    before = [gateway.snapshot() for gateway in (c1, c2)]
    try:
        bring_up(c1, c2)
        assert segments(c1) == segments(c2) == []
        ping = first.run("ping", "-c", "1", "-W", "5", target, check=False)
        assert ping.returncode == 0, ping.stdout
        assert transferred(first, second, target, 2) == (0, 0)

        for gateway in (c1, c2):
            gateway.write(FILE, document(shape))
        status = run(c1, "status", FILE)
        assert "nothing limits TCP's segments" in " ".join(status.stdout.split())
        bring_up(c1, c2)
        assert len(segments(c1)) == 1
        assert transferred(first, second, target, 20) == (BYTES, BYTES)
        assert transferred(second, first, source, 20) == (BYTES, BYTES)
        # The gateway's own connection, too: its SYN has the MSS of its link.
        own = source.removesuffix("2") + "1"
        assert transferred(c1, second, target, 20, own) == (BYTES, BYTES)
        assert run(c1, "connect", FILE).stdout.startswith("nothing to do: ")
        assert run(c1, "status", FILE).returncode == 0
    finally:
        tear_down(c1, c2)
        for gateway in (c1, c2):
            gateway.write(FILE, f"{document(shape)}mss: off\n")
    after = [gateway.snapshot() for gateway in (c1, c2)]
    assert [changes(*each) for each in zip(before, after, strict=True)] == ["", ""]


@pytest.mark.parametrize(
    "damage",
    [
        "nft delete table inet {table}",
        "nft flush chain inet {table} out",
        "nft add element inet {table} remote '{{ 10.99.0.0/16 }}'",
        "nft flush set inet {table} remote",
        "nft add rule inet {table} in counter accept",
        "nft 'table inet {table} {{ flags dormant; }}'",
    ],
)
def test_what_somebody_changed_is_repaired(
    hosts: tuple[Lab, Gateway, Gateway], damage: str
) -> None:
    lab, *_ = hosts
    c1, c2 = lab.gateways[:2]
    for gateway in (c1, c2):
        gateway.write(FILE, document("tunnel v4"))
        gateway.write(PSK_FILE, f"{PSK}\n")
    bring_up(c1, c2)
    try:
        (table,) = segments(c1)
        c1.run("sh", "-c", damage.format(table=table))
        status = run(c1, "status", FILE)
        assert status.returncode == 1
        assert "TCP's segments" in " ".join(status.stdout.split())
        assert run(c1, "connect", FILE).returncode == 0
        assert run(c1, "status", FILE).returncode == 0
        assert run(c1, "connect", FILE).stdout.startswith("nothing to do: ")
    finally:
        tear_down(c1, c2)
