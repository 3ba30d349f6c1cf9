"""Measures the memory of a real pluto, and of the kernel's SAs and policies.

Run `make memory`. As root, `python -m benchmarks.memory` measures loaded connections, and
`python -m benchmarks.memory sas` measures SAs, which needs the lab's kernel. The connections are
for VXLAN, two per peer, loaded by the commands of cablectl's plans. Pluto's memory is Rss and Pss
as the kernel reports them. Pss counts a shared page only in part, so it changes whenever another
pluto starts on the machine; therefore no result is calculated from Pss.
"""

from __future__ import annotations

import re
import shlex
import statistics
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from ipaddress import IPv4Address
from itertools import pairwise
from pathlib import Path

from msgspec.structs import replace

from cablectl.libreswan import whack
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable
from tests.lab.cable import PSK
from tests.lab.gateways import Gateway, Lab
from tests.lab.releases import installations
from tests.lab.rooms import until
from tests.support.documents import shaped

COUNTS = (10, 100, 500)  # connections
MESH = 1998  # connections to 999 peers
PEERS = 20  # with established SAs
ENTRIES = 2000  # SAs, and then policies, for the kernel's memory
RELEASES = {"4.10": Version(4, 10), "5.2": Version(5, 2)}
HERE = "10.0.0.1"
SA = "xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi {} reqid {} mode transport"
SA_KEY = f"aead rfc4106(gcm(aes)) 0x{'5a' * 36} 128 encap espinudp 4500 4500 0.0.0.0"
POLICY = "xfrm policy add src 10.0.0.1/32 dst 10.1.{}.{}/32 proto udp dport 4789 dir out"
TEMPLATE = "tmpl proto esp reqid 1 mode transport"


def addresses(count: int) -> Iterator[str]:
    """Yield the addresses of `count` peers."""
    return (f"10.1.{number // 250}.{number % 250 + 1}" for number in range(count))


def cables(peers: Sequence[str]) -> list[Cable]:
    """Return the cable from HERE to each of the peers."""
    shape = shaped("transport vxlan v4")
    local = replace(shape.local, address=IPv4Address(HERE))
    return [
        replace(
            shape,
            local=local,
            remote=replace(shape.remote, cluster=f"c{number}", address=IPv4Address(peer)),
        )
        for number, peer in enumerate(peers)
    ]


def mirrored(cable: Cable) -> Cable:
    """Return the cable as seen from its other end, with a unique name."""
    here = replace(cable.local, cluster=f"here-{cable.remote.cluster}")
    return replace(cable, local=cable.remote, remote=here)


def load(gateway: Gateway, cables: Sequence[Cable], version: Version) -> None:
    """Load and route the cables' connections and secrets, like connect."""
    secrets = (f'{cable.local.address} {cable.remote.address} : PSK "{PSK}"\n' for cable in cables)
    gateway.write(
        "/etc/ipsec.d/bench.secrets", gateway.read("/etc/ipsec.d/bench.secrets") + "".join(secrets)
    )
    lines = ["ipsec whack --rereadsecrets"]
    for cable in cables:
        for connection in cable.connections:
            lines.append(shlex.join(whack.add(cable, connection, version)))
        for connection in cable.connections:
            lines.append(shlex.join(whack.route(connection.name)))
    gateway.run("sh", "-e", input="\n".join(lines), timeout=300)


def pluto_memory(gateway: Gateway) -> dict[str, int]:
    """Return pluto's memory in bytes, by the kernel's names: Rss, Pss and more."""
    pid = gateway.read("/run/pluto/pluto.pid").strip()
    rollup = gateway.read(f"/proc/{pid}/smaps_rollup")
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB", rollup, re.M)}


def measure_loaded(release: str) -> None:
    """Print pluto's memory for each of COUNTS, and the extrapolation to MESH."""
    with closing(Gateway("here", installations()[release])) as gateway:
        gateway.ip(
            "link set lo up",
            "link add eth0 type veth peer name eth1",
            "link set eth1 up",
            "link set eth0 up",
            f"address add {HERE}/8 dev eth0",
            "route add default via 10.0.0.2",
        )
        gateway.start_pluto()
        all_cables = cables(list(addresses(COUNTS[-1] // 2)))
        measured = [(0, pluto_memory(gateway))]
        for count in COUNTS:
            load(gateway, all_cables[measured[-1][0] // 2 : count // 2], RELEASES[release])
            measured.append((count, pluto_memory(gateway)))
        status = gateway.whack("--status")
    assert f"Total IPsec connections: loaded {COUNTS[-1]}," in status
    print(f"Libreswan {release}, lifetimes: {lifetimes(status)}")
    for count, memory in measured:
        print(f"{count:5} loaded  Rss {mib(memory['Rss'])}  Pss {mib(memory['Pss'])}")
    sizes = [(count, memory["Rss"]) for count, memory in measured[1:]]
    slope, start = statistics.linear_regression(*zip(*sizes, strict=True))
    print(
        f"{MESH:5} loaded  Rss {mib(start + slope * MESH)}, extrapolated: "
        f"{slope / 1024:.1f} KiB a connection"
    )


def lifetimes(status: str) -> str:
    """Return a connection's lifetimes from pluto's status."""
    match = re.search(
        r"ike_life: .*?;.*?ipsec_life: .*?;.*?rekey_margin: .*?;.*?rekey_fuzz: [^;]*", status
    )
    assert match
    return match[0]


def mib(size: float) -> str:
    """Return bytes as MiB, aligned."""
    return f"{size / 2**20:6.1f} MiB"


def measure_established() -> None:
    """Print pluto's memory of established SAs with PEERS peers; one gateway has all addresses."""
    with Lab() as lab:
        local = lab.gateway("here", f"{HERE}/8")
        remote = lab.gateway("there", "10.0.0.2/8")
        peers = list(addresses(PEERS))
        remote.ip(*(f"address add {address}/8 dev eth0" for address in peers))
        release, version = "4.10", RELEASES["4.10"]
        local_cables = cables(peers)
        remote_cables = [mirrored(cable) for cable in local_cables]
        for gateway, own_cables in ((local, local_cables), (remote, remote_cables)):
            gateway.start_pluto()
            load(gateway, own_cables, version)
        before = pluto_memory(local)
        sizes = [(0, before)]
        for index in (0, 1):
            names = [cable.connections[index].name for cable in local_cables]
            lines = [shlex.join(whack.initiate(name)) for name in names]
            local.run("sh", "-e", input="\n".join(lines), timeout=300)
            count = PEERS * (index + 1)
            until(lambda: child_sas(local) >= count, f"{count} Child SAs", timeout=120)  # noqa: B023
            sizes.append((child_sas(local), pluto_memory(local)))
        policies = local.run("ip", "xfrm", "policy", "list", "nosock").stdout.count("\tdir ")
    print(
        f"Libreswan {release}, {PEERS} peers, {2 * PEERS} connections loaded, "
        f"no SA: Rss {mib(before['Rss'])}"
    )
    for count, memory in sizes[1:]:
        print(f"{count:5} Child SAs, {PEERS} IKE SAs  Rss {mib(memory['Rss'])}")
    # The first step adds an IKE SA and a Child SA per peer, the second step only a Child SA.
    first, second = (
        (after["Rss"] - earlier["Rss"]) / PEERS for (_, earlier), (_, after) in pairwise(sizes)
    )
    print(f"{(first - second) / 1024:.0f} KiB per IKE SA, {second / 1024:.0f} KiB per Child SA")
    print(f"{policies} policies for {2 * PEERS} connections")


def child_sas(gateway: Gateway) -> int:
    """Return the number of Child SAs."""
    return gateway.whack("--trafficstatus").count("type=ESP")


def measure_kernel() -> None:
    """Print the kernel's memory per SA, and per policy."""
    with Lab() as lab:
        gateway = lab.gateway("here", f"{HERE}/8")
        for kind, lines in (
            ("SA", [f"{SA.format(n + 256, n + 1)} {SA_KEY}" for n in range(ENTRIES)]),
            ("policy", [f"{POLICY.format(n // 250, n % 250)} {TEMPLATE}" for n in range(ENTRIES)]),
        ):
            before = kernel_memory()
            gateway.ip(*lines)
            size = (kernel_memory() - before) / ENTRIES
            print(f"{size / 1024:.2f} KiB of kernel memory per {kind}, of {ENTRIES}")


def kernel_memory() -> int:
    """Return the bytes that the kernel uses itself: slabs, per-CPU memory, vmalloc."""
    values = dict(re.findall(r"^(\w+): +(\d+)", Path("/proc/meminfo").read_text(), re.M))
    return sum(int(values.get(name, 0)) for name in ("Slab", "Percpu", "VmallocUsed")) * 1024


def main() -> None:
    """Measure SAs if the command line says `sas`, else loaded connections."""
    if sys.argv[1:] == ["sas"]:
        measure_kernel()
        measure_established()
    else:
        for release in RELEASES:
            measure_loaded(release)


if __name__ == "__main__":
    main()
