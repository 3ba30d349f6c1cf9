"""Memory of a real pluto, and of the kernel's SAs and policies.

Run `make memory`: as root `python -m benchmarks.memory` for connections that are loaded, and with
`sas` for SAs that stand, which takes the lab's kernel. Connections are VXLAN's, two to each peer,
by the very commands of cablectl's plans. Pluto's memory is what the kernel tells of it: Rss, and
Pss, where each page that other processes have as well counts in part only. Nothing is calculated
from Pss: it changes whenever another pluto starts on the machine.
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
from tests.lab.gateways import ROOTS, Gateway, Lab
from tests.lab.rooms import until
from tests.support.documents import shaped

COUNTS = (10, 100, 500)  # connections
MESH = 1998  # connections to 999 peers
PEERS = 20  # with SAs that stand
ENTRIES = 2000  # SAs, and then policies, of which the kernel's memory is measured
RELEASES = {"4.10": Version(4, 10), "5.2": Version(5, 2)}
HERE = "10.0.0.1"
SA = "xfrm state add src 10.0.0.1 dst 10.0.0.2 proto esp spi {} reqid {} mode transport"
SA_KEY = f"aead rfc4106(gcm(aes)) 0x{'5a' * 36} 128 encap espinudp 4500 4500 0.0.0.0"
POLICY = "xfrm policy add src 10.0.0.1/32 dst 10.1.{}.{}/32 proto udp dport 4789 dir out"
TEMPLATE = "tmpl proto esp reqid 1 mode transport"


def addresses(count: int) -> Iterator[str]:
    """Yield so many peers' addresses."""
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
    """Return the cable as its other end has it, under a name that no other one has there."""
    here = replace(cable.local, cluster=f"here-{cable.remote.cluster}")
    return replace(cable, local=cable.remote, remote=here)


def load(gateway: Gateway, these: Sequence[Cable], version: Version) -> None:
    """Load and route the cables' connections, and their secrets, as their plans do."""
    secrets = (f'{each.local.address} {each.remote.address} : PSK "{PSK}"\n' for each in these)
    gateway.write(
        "/etc/ipsec.d/bench.secrets", gateway.read("/etc/ipsec.d/bench.secrets") + "".join(secrets)
    )
    lines = ["ipsec whack --rereadsecrets"]
    for cable in these:
        lines += [shlex.join(whack.add(cable, each, version)) for each in cable.connections]
        lines += [shlex.join(whack.route(each.name)) for each in cable.connections]
    gateway.run("sh", "-e", input="\n".join(lines), timeout=300)


def pluto(gateway: Gateway) -> dict[str, int]:
    """Return what the kernel tells of pluto's memory, in bytes: Rss, Pss and more."""
    pid = gateway.read("/run/pluto/pluto.pid").strip()
    told = gateway.read(f"/proc/{pid}/smaps_rollup")
    return {name: int(kib) * 1024 for name, kib in re.findall(r"^(\w+): +(\d+) kB", told, re.M)}


def loaded(release: str) -> None:
    """Print pluto's memory at each of COUNTS, and what follows for MESH."""
    with closing(Gateway("here", ROOTS[release])) as gateway:
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
        seen = [(0, pluto(gateway))]
        for count in COUNTS:
            load(gateway, all_cables[seen[-1][0] // 2 : count // 2], RELEASES[release])
            seen.append((count, pluto(gateway)))
        status = gateway.whack("--status")
    assert f"Total IPsec connections: loaded {COUNTS[-1]}," in status
    print(f"Libreswan {release}, lifetimes: {lifetimes(status)}")
    for count, told in seen:
        print(f"{count:5} loaded  Rss {mib(told['Rss'])}  Pss {mib(told['Pss'])}")
    sizes = [(count, told["Rss"]) for count, told in seen[1:]]
    slope, start = statistics.linear_regression(*zip(*sizes, strict=True))
    print(
        f"{MESH:5} loaded  Rss {mib(start + slope * MESH)}, extrapolated: "
        f"{slope / 1024:.1f} KiB a connection"
    )


def lifetimes(status: str) -> str:
    """Return the line of pluto's status that has a connection's lifetimes."""
    found = re.search(
        r"ike_life: .*?;.*?ipsec_life: .*?;.*?rekey_margin: .*?;.*?rekey_fuzz: [^;]*", status
    )
    assert found
    return found[0]


def mib(size: float) -> str:
    """Return bytes as MiB, aligned."""
    return f"{size / 2**20:6.1f} MiB"


def established() -> None:
    """Print what SAs that stand cost pluto: PEERS peers, which are the addresses of one gateway."""
    with Lab() as lab:
        here = lab.gateway("here", f"{HERE}/8")
        there = lab.gateway("there", "10.0.0.2/8")
        peers = list(addresses(PEERS))
        there.ip(*(f"address add {each}/8 dev eth0" for each in peers))
        release, version = "4.10", RELEASES["4.10"]
        ours = cables(peers)
        for gateway, these in ((here, ours), (there, [mirrored(cable) for cable in ours])):
            gateway.start_pluto()
            load(gateway, these, version)
        before, sizes = pluto(here), [(0, pluto(here))]
        for index in (0, 1):
            names = [cable.connections[index].name for cable in ours]
            lines = [shlex.join(whack.initiate(name)) for name in names]
            here.run("sh", "-e", input="\n".join(lines), timeout=300)
            count = PEERS * (index + 1)
            until(lambda: standing(here) >= count, f"{count} Child SAs", timeout=120)  # noqa: B023
            sizes.append((standing(here), pluto(here)))
        policies = here.run("ip", "xfrm", "policy", "list", "nosock").stdout.count("\tdir ")
    print(
        f"Libreswan {release}, {PEERS} peers, {2 * PEERS} connections loaded, "
        f"no SA: Rss {mib(before['Rss'])}"
    )
    for count, told in sizes[1:]:
        print(f"{count:5} Child SAs, {PEERS} IKE SAs  Rss {mib(told['Rss'])}")
    first, second = ((b["Rss"] - a["Rss"]) / PEERS for (_, a), (_, b) in pairwise(sizes))
    print(f"{(first - second) / 1024:.0f} KiB for each IKE SA, {second / 1024:.0f} KiB a Child SA")
    print(f"{policies} policies for {2 * PEERS} connections")


def standing(gateway: Gateway) -> int:
    """Return how many Child SAs there are."""
    return gateway.whack("--trafficstatus").count("type=ESP")


def kernel() -> None:
    """Print how much of its memory the kernel takes for an SA, and for a policy."""
    with Lab() as lab:
        here = lab.gateway("here", f"{HERE}/8")
        for what, lines in (
            ("SA", [f"{SA.format(n + 256, n + 1)} {SA_KEY}" for n in range(ENTRIES)]),
            ("policy", [f"{POLICY.format(n // 250, n % 250)} {TEMPLATE}" for n in range(ENTRIES)]),
        ):
            before = kernel_memory()
            here.ip(*lines)
            each = (kernel_memory() - before) / ENTRIES
            print(f"{each / 1024:.2f} KiB of kernel memory for each {what}, of {ENTRIES}")


def kernel_memory() -> int:
    """Return the bytes that the kernel says it took for itself: slabs, and those of each CPU."""
    told = dict(re.findall(r"^(\w+): +(\d+)", Path("/proc/meminfo").read_text(), re.M))
    return sum(int(told.get(name, 0)) for name in ("Slab", "Percpu", "VmallocUsed")) * 1024


def main() -> None:
    """Measure what the command line says."""
    if sys.argv[1:] == ["sas"]:
        kernel()
        established()
    else:
        for release in RELEASES:
            loaded(release)


if __name__ == "__main__":
    main()
