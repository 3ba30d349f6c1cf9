"""How long `cablectl status` takes for many cables, as a ratio to what pluto itself needs.

Run `python -m benchmarks.status [CABLES [RELEASE]]` as root: 500 cables are 1,000 connections, with
Libreswan 4.10. A real pluto has the connections, the kernel the device and its entries, and no SAs
stand, so that no kernel with ESP is needed. The commands are those of cablectl's own plan.
"""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from contextlib import closing

from cablectl.config import native
from cablectl.facts.host_facts import Facts
from cablectl.libreswan import dialects
from cablectl.plan import connect_plan
from cablectl.plan.steps import Phase
from tests.lab.cable import FILE, PSK, PSK_FILE
from tests.lab.gateways import ROOTS, Gateway
from tests.lab.rooms import PROGRAM

from .peers import HUB, document

ROUNDS = 5
PHASES = (Phase.GUARD, Phase.SECRET, Phase.ADD, Phase.OVERLAY, Phase.UP)
WAYS = {
    "whack --status": ("ipsec", "whack", "--status"),
    "status": (PROGRAM, "status"),
    "status FILE": (PROGRAM, "status", FILE),
    "status --format json": (PROGRAM, "status", "--format", "json"),
}


def main() -> None:
    """Print the medians and their ratios."""
    count, release = (*sys.argv[1:], *("500", "4.10")[len(sys.argv) - 1 :])
    network = native.parse(document(int(count)), FILE)
    cables = network.cables(network.endpoints[0])
    facts = Facts(libreswan=dialects.parse_version(release))
    steps = connect_plan.plan(cables, (facts,) * len(cables)).steps
    script = "".join(f"{shlex.join(step.argv)}\n" for step in steps if step.phase in PHASES)
    with closing(Gateway("hub", ROOTS[release])) as hub:
        hub.ip(
            "link set lo up",
            "link add eth0 type veth peer name other",
            "link set eth0 up",
            "link set other up",
            f"address add {HUB}/16 dev eth0",
            "route add default dev eth0",
        )
        hub.write(FILE, document(int(count)))
        hub.write(PSK_FILE, f"{PSK}\n")
        hub.start_pluto()
        hub.run("sh", "-e", input=f"exec >/dev/null\n{script}", timeout=600)
        times: dict[str, list[float]] = {name: [] for name in WAYS}
        for _ in range(ROUNDS):
            for name, argv in WAYS.items():
                began = time.perf_counter()
                said = hub.run(*argv, check=False).stdout
                times[name].append(time.perf_counter() - began)
                assert said.count("submariner-cable-") >= len(cables)
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, median in medians.items():
        print(f"{name:22} {median:6.2f} s  ratio {median / medians['whack --status']:.1f}")


if __name__ == "__main__":
    main()
