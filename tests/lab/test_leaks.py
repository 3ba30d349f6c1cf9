"""Fail closed on hosts that do more: NAT, containers, users, other peers, missing parts.

Each kind of trouble counts three things: clear packets that left, packets that got in, and packets
that the guard dropped. The kinds that need SAs run on two gateways with pluto.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from itertools import product

import pytest

from cablectl.linux import guard, iproute
from cablectl.model.cable import Cable
from cablectl.model.wishes import OVERLAYS, AnyAddress, Mode
from tests.support.documents import FAMILIES, document, shaped

from .cable import FILE, PSK, PSK_FILE, bring_up, run, tear_down
from .counters import dropped, echo_requests
from .extent import chosen
from .gateways import Gateway, Lab
from .inject import echo, fragments, in_overlay, ip, of_overlay, send, send_udp, udp
from .rooms import PROGRAM, Process, Room, until
from .traffic import PATTERN

pytestmark = pytest.mark.lab

Record = Callable[[str, object], None]
SHAPES = [
    *(f"transport {kind} {family}" for kind, family in product(OVERLAYS, FAMILIES)),
    *("tunnel v4", "tunnel v6", "transport none v4", "transport none v6"),
    *("tunnel vxlan v4", "tunnel ipip v6"),
]
COUNT = 3  # packets of each sender and kind
CONTAINER = {4: "172.17.0.2", 6: "fd00:17::2"}
OUTSIDER = {4: "172.18.0.66", 6: "2001:db8::66"}
PUBLISHED = 8080  # a UDP port of the container, published on the gateway
NAT = """
table inet others {{
    chain in {{ type nat hook prerouting priority dstnat;
        udp dport {port} dnat {family} {container}; }}
    chain out {{ type nat hook postrouting priority srcnat; oifname "eth0" masquerade; }}
}}
"""
MARK = bytes.fromhex(PATTERN) * 4


@dataclass
class World:
    """Two gateways, and what is around the first: a host, a container, an outsider."""

    lab: Lab
    shape: str
    local: Cable
    remote: Cable
    host: Room
    container: Room
    outsider: Gateway
    mac: bytes  # of the first gateway
    record: Record

    @property
    def gateways(self) -> tuple[Gateway, Gateway]:
        c1, c2, *_ = self.lab.gateways
        return c1, c2

    @property
    def version(self) -> int:
        return self.local.local.address.version

    @property
    def hosts_alone(self) -> bool:
        """Whether the cable carries only what the two gateways send to each other."""
        return self.local.mode is Mode.TRANSPORT and not self.local.overlay

    @property
    def loops(self) -> bool:
        """Whether the route to the peer's underlay address leads into the device itself."""
        return self.local.mode is Mode.TUNNEL and self.local.overlay is not None

    @property
    def targets(self) -> tuple[AnyAddress, ...]:
        """What must be reached by the cable or not at all."""
        if self.hosts_alone:
            return (self.local.remote_host,)
        vtep = (self.local.remote_vtep.ip,) if self.local.overlay else ()
        return (self.local.remote.networks[0][1], *vtep)

    def stir(self) -> None:
        """Send from everywhere to everything that is the cable's."""
        c1, _ = self.gateways
        rooms = (c1,) if self.hosts_alone else (c1, self.host, self.container)
        pings = [pinging(room, target) for target in self.targets for room in rooms]
        for target in self.targets:
            send_udp(c1, target, 9, MARK, COUNT)
        for process in pings:
            process.communicate(timeout=60)

    def nat(self) -> str:
        """Return another program's table: masquerade for all, and a published port."""
        container = CONTAINER[self.version]
        family = "ip to" if self.version == 4 else "ip6 to"
        return NAT.format(port=PUBLISHED, family=family, container=container)

    def abuse(self) -> None:
        """Send the overlay's own packets to the peer, as a user and from a container."""
        c1, _ = self.gateways
        overlay, peer = self.local.overlay, self.local.remote_underlay
        assert overlay
        payload = in_overlay(self.remote)
        if overlay.port_number:
            for room in (c1, self.container, self.host):
                send_udp(room, peer, overlay.port_number, payload, COUNT)
        else:  # in its own namespace, a container may send whatever it likes
            source, protocol = ip_address(CONTAINER[self.version]), overlay.protocol(self.version)
            packet = ip(source, peer, protocol.number, payload)
            send(self.container, c1, packet, COUNT, "docker0")

    def attack(self) -> None:
        """Inject clear packets from the wire, whole and in fragments."""
        c1, _ = self.gateways
        local, remote = self.local.local, self.local.remote
        packets: list[bytes | list[bytes]] = []
        sources = (ip_address(OUTSIDER[self.version]), self.local.remote_underlay)
        if self.local.overlay:
            whole = [of_overlay(self.local, source) for source in sources]
            packets += whole
            packets += [fragments(packet, size) for packet in whole for size in (8, 16)]
            packets.append(echo(self.local.remote_vtep.ip, self.local.local_vtep.ip))
        if local.networks:
            packets.append(echo(remote.networks[0][1], local.networks[0][2]))
            packets.append(echo(remote.networks[0][1], local.address))
        else:
            packets.append(echo(self.local.remote_host, local.address))
            packets.append(udp(self.local.remote_host, local.address, PUBLISHED, MARK))
        for packet in packets:
            send(self.outsider, c1, packet, COUNT)

    def arrived(self) -> int:
        """Return how many packets of an attacker were delivered, at either end or behind."""
        rooms = (*self.gateways, self.host, self.container)
        return sum(echo_requests(room, self.version) + datagrams(room) for room in rooms)

    @contextmanager
    def leaks(self, kind: str) -> Iterator[None]:
        """Count the clear packets that leave the first gateway meanwhile; there may be none."""
        yield from self._counted(kind, injects=False)

    @contextmanager
    def injections(self, kind: str) -> Iterator[None]:
        """Count the packets of attackers that are delivered meanwhile; there may be none."""
        yield from self._counted(kind, injects=True)

    def _counted(self, kind: str, *, injects: bool) -> Iterator[None]:
        c1, _ = self.gateways
        before, arrived = sum(dropped(c1, self.local)), self.arrived()
        with self.lab.capture() as wire:
            yield
        leaked = injected = 0
        if injects:  # an ICMP error quotes the attacker's own packet
            injected = self.arrived() - arrived
        else:
            leaked = sum(MARK in frame and frame[6:12] == self.mac for frame in wire.frames)
        drops = sum(dropped(c1, self.local)) - before
        counts = f"leak {leaked}, injected {injected}, dropped {drops}"
        self.record(f"{self.shape}, {kind}", counts)
        assert (leaked, injected) == (0, 0), f"{kind}: {counts}"
        # In tunnel mode an overlay's device itself drops what no policy takes.
        loops = self.loops and kind == "policies flushed"
        assert drops or loops or kind.startswith("up"), f"{kind}: no packet met the guard"


def datagrams(room: Room) -> int:
    """Return how many UDP packets without a listening socket were delivered to a room."""
    names, values, *_ = (
        line.split()
        for line in room.run("cat", "/proc/net/snmp").stdout.splitlines()
        if line.startswith("Udp:")
    )
    six = dict(map(str.split, room.run("cat", "/proc/net/snmp6").stdout.splitlines()))
    return int(values[names.index("NoPorts")]) + int(six["Udp6NoPorts"])


def pinging(room: Room, target: AnyAddress) -> Process:
    """Ping COUNT times with the pattern; nobody needs to answer."""
    words = ("-c", str(COUNT), "-i", "0.1", "-W", "1", "-p", PATTERN)
    return room.popen("ping", *words, str(target))


def assert_attacks_succeed(world: World) -> None:
    before = world.arrived()
    world.attack()
    assert world.arrived() > before, "an attacker's packets get in nowhere"


def assert_packets_get_in_without_a_guard(world: World) -> None:
    """What the guard drops would be delivered: so the counts of the other kinds prove something."""
    c1, _ = world.gateways
    c1.run(*guard.remove(world.local))
    if not world.hosts_alone:  # the kernel's policies drop these
        assert_attacks_succeed(world)
    overlay = world.local.overlay
    if overlay and overlay.port_number:
        before = world.arrived()
        world.abuse()
        assert world.arrived() > before, "a user's packets don't arrive in the peer's overlay"
    assert run(c1, "connect", FILE).returncode == 0


def c2_answers(world: World) -> bool:
    """Tell whether a host behind the first gateway reaches the other cluster."""
    room = world.host if world.local.remote.networks else world.gateways[0]
    with pinging(room, world.targets[0]) as process:
        process.communicate(timeout=60)
    return process.returncode == 0


@pytest.fixture(scope="module")
def rooms() -> Iterator[tuple[Lab, Room, Room, Gateway, Gateway]]:
    """Two gateways; behind the first a host of its cluster and a container; two more hosts."""
    with Lab() as lab, ExitStack() as stack:
        for name, last in (("c1", 8), ("c2", 7), ("c3", 6)):
            lab.gateway(name, f"172.18.0.{last}/16", f"2001:db8::{last}/64").start_pluto()
        c1, c2, c3 = lab.gateways
        outsider = lab.gateway("outsider", f"{OUTSIDER[4]}/16", f"{OUTSIDER[6]}/64")
        lab.gateways.remove(outsider)
        host, container = (stack.enter_context(closing(Room(n))) for n in ("host", "container"))
        behind(c1, host, "inside", "10.44.0.{}/16", "2001:db8:44::{}/48")
        behind(c1, container, "docker0", "172.17.0.{}/24", "fd00:17::{}/64")
        for network in ("10.45.0.1/32", "2001:db8:45::1/128"):
            c2.ip(f"address add {network} dev lo")
        yield lab, host, container, outsider, c3


def behind(gateway: Gateway, room: Room, device: str, *networks: str) -> None:
    """Connect a room to a gateway, which forwards for it."""
    gateway.ip(
        f"link add {device} type veth peer name eth0 netns {room.pid}",
        f"link set {device} gso_max_segs 1 up",
    )
    room.ip("link set lo up", "link set eth0 gso_max_segs 1 up")
    for network in networks:
        nodad = " nodad" if ":" in network else ""
        gateway.ip(f"address add {network.format(1)} dev {device}{nodad}")
        router = str(ip_interface(network.format(1)).ip)
        room.ip(
            f"address add {network.format(2)} dev eth0{nodad}", f"route add default via {router}"
        )
    gateway.run("sysctl", "--quiet", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")


@pytest.fixture(params=chosen(SHAPES, 2))
def world(
    request: pytest.FixtureRequest,
    rooms: tuple[Lab, Room, Room, Gateway, Gateway],
    record_property: Record,
) -> Iterator[World]:
    """The gateways with a file of that shape; no cable is up, and the guard is loaded."""
    shape = request.param
    lab, host, container, outsider, _ = rooms
    local, remote = shaped(shape, "cluster1"), shaped(shape, "cluster2")
    c1 = lab.gateways[0]
    mac = c1.run("cat", "/sys/class/net/eth0/address").stdout.strip().replace(":", "")
    made = World(
        lab, shape, local, remote, host, container, outsider, bytes.fromhex(mac), record_property
    )
    for gateway in made.gateways:
        gateway.write(FILE, document(shape))
        gateway.write(PSK_FILE, f"{PSK}\n")
    try:
        yield made
    finally:
        made.gateways[0].run("nft", "delete", "table", "inet", "others", check=False)
        tear_down(*made.gateways)


def test_a_gateway_with_nat_containers_and_users_leaks_nothing(world: World) -> None:
    c1, c2 = world.gateways
    overlay = world.local.overlay
    with world.lab.capture() as wire:
        world.stir()
    assert sum(MARK in frame for frame in wire.frames), "without a guard nothing leaks either"
    if world.hosts_alone:
        assert_attacks_succeed(world)
    c1.run(*guard.load(world.local))
    with world.leaks("before connect"):
        world.stir()
    c1.run("nft", "-f", "-", input=world.nat())
    with world.leaks("before connect, NAT"):
        world.stir()
    c1.run("nft", "delete", "table", "inet", "others")

    bring_up(c1, c2)
    with world.leaks("up"):
        world.stir()
    assert c2_answers(world)
    with world.injections("from the wire"):
        world.attack()
    if overlay:
        with world.injections("by users and containers"):
            world.abuse()
    assert_packets_get_in_without_a_guard(world)

    c1.run("nft", "-f", "-", input=world.nat())
    with world.leaks("up, NAT"):
        world.stir()
    with world.injections("from the wire, NAT"):
        world.attack()
    if overlay:
        assert c2_answers(world), "another program's masquerade breaks the cable"
        with world.injections("by users and containers, NAT"):
            world.abuse()
        c1.ip(f"link set {overlay.device} down")
        with world.leaks("device down"):
            world.stir()
        assert run(c1, "connect", FILE).returncode == 0
        c1.run("ip", f"-{world.version}", "rule", "flush", "protocol", iproute.PROTOCOL)
        with world.leaks("rules flushed"):
            world.stir()
        assert run(c1, "connect", FILE).returncode == 0
    c1.run("ip", "xfrm", "policy", "flush")
    with world.leaks("policies flushed"):
        world.stir()
    if world.loops:
        c1.run(*guard.remove(world.local))
        with world.lab.capture() as wire:
            world.stir()
        assert not sum(MARK in frame and frame[6:12] == world.mac for frame in wire.frames)
    # pluto's own policies are flushed too, such as that of IPv6 neighbour discovery.
    c1.stop_pluto()
    c1.start_pluto()


@pytest.mark.parametrize("world", ["transport vxlan v4", "transport vxlan v6"], indirect=True)
def test_the_sa_of_another_peer_carries_nothing_into_the_device(
    world: World, rooms: tuple[Lab, Room, Room, Gateway, Gateway]
) -> None:
    """The third gateway has transport mode with the first, and sends the overlay's packets."""
    c1, c2 = world.gateways
    *_, c3 = rooms
    other, overlay = f"/etc/cablectl/{c3.name}.yaml", world.local.overlay
    assert overlay
    assert overlay.port_number
    text = document(f"transport none {'v4' if world.version == 4 else 'v6'}")
    text = text.replace("cluster2", "cluster3")
    text = text.replace(str(world.local.remote_host), f"{world.local.remote_host - 1}")
    for gateway in (c1, c3):
        gateway.write(other, text)
    c3.write(PSK_FILE, f"{PSK}\n")
    bring_up(c1, c2)
    with c3.popen(PROGRAM, "connect", other) as connecting:
        done = run(c1, "connect", other)
        connecting.communicate(timeout=150)
    assert (done.returncode, connecting.returncode) == (0, 0), done.stderr
    try:
        with world.injections("by another peer's SA"):
            send_udp(
                c3, world.local.local.address, overlay.port_number, in_overlay(world.local), COUNT
            )
        c1.run(*guard.remove(world.local))
        before = echo_requests(c1, world.version)
        send_udp(c3, world.local.local.address, overlay.port_number, in_overlay(world.local), COUNT)
        assert echo_requests(c1, world.version) == before + COUNT
    finally:
        for gateway in (c1, c3):
            run(gateway, "teardown", other)


@pytest.mark.parametrize("world", ["transport none v4", "transport none v6"], indirect=True)
def test_ike_in_fragments_passes(world: World) -> None:
    c1, _ = world.gateways
    c1.run(*guard.load(world.local))
    before = dropped(c1, world.local)
    packet = udp(world.local.remote_host, world.local.local.address, 500, bytes(64))
    with world.lab.capture():  # at its end, all packets have arrived
        for size in (8, 16):
            send(world.outsider, c1, fragments(packet, size), COUNT)
    assert dropped(c1, world.local) == before
    other = udp(world.local.remote_host, world.local.local.address, 501, bytes(64))
    send(world.outsider, c1, fragments(other), COUNT)
    until(lambda: dropped(c1, world.local)[0] == before[0] + COUNT, "dropped fragments")
