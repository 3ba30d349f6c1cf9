"""Measures the time of `cablectl status` for many cables, as a ratio to `ipsec whack --status`.

Run `python -m benchmarks.status [CABLES [RELEASE]]` as root. The defaults are 500 cables, which
have 1,000 connections, and Libreswan 4.10. RELEASE may also be a name of LAB_RELEASES. A real pluto
has the connections, and the kernel has the device and its entries, created by the commands of
cablectl's plan. No SA is established, so the kernel needs no ESP.
"""

from __future__ import annotations

import shlex
import statistics
import sys
import time
from contextlib import closing

from cablectl.config import native
from cablectl.facts.host_facts import Facts
from cablectl.plan import connect_plan
from cablectl.plan.steps import Phase
from tests.lab.cable import FILE, PSK, PSK_FILE
from tests.lab.gateways import Gateway
from tests.lab.releases import installations
from tests.lab.rooms import PROGRAM

from .peers import HUB, document

ROUNDS = 5
PHASES = (Phase.GUARD, Phase.SECRET, Phase.ADD, Phase.OVERLAY, Phase.UP)
COMMANDS = {
    "whack --status": ("ipsec", "whack", "--status"),
    "status": (PROGRAM, "status"),
    "status FILE": (PROGRAM, "status", FILE),
    "status --format json": (PROGRAM, "status", "--format", "json"),
}


def main() -> None:
    """Print the medians and their ratios."""
    arguments = dict(enumerate(sys.argv[1:]))
    count, release = int(arguments.get(0, "500")), arguments.get(1, "4.10")
    network = native.parse(document(count), FILE)
    cables = network.cables(network.endpoints[0])
    with closing(Gateway("hub", installations()[release])) as hub:
        facts = Facts(libreswan=hub.release())
        steps = connect_plan.plan(cables, (facts,) * len(cables)).steps
        script = "".join(f"{shlex.join(step.argv)}\n" for step in steps if step.phase in PHASES)
        hub.ip(
            "link set lo up",
            "link add eth0 type veth peer name other",
            "link set eth0 up",
            "link set other up",
            f"address add {HUB}/16 dev eth0",
            "route add default dev eth0",
        )
        hub.write(FILE, document(count))
        hub.write(PSK_FILE, f"{PSK}\n")
        hub.start_pluto()
        hub.run("sh", "-e", input=f"exec >/dev/null\n{script}", timeout=600)
        times: dict[str, list[float]] = {name: [] for name in COMMANDS}
        for _ in range(ROUNDS):
            for name, argv in COMMANDS.items():
                began = time.perf_counter()
                output = hub.run(*argv, check=False).stdout
                times[name].append(time.perf_counter() - began)
                assert output.count("submariner-cable-") >= len(cables)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:22} {median:6.2f} s  ratio {median / medians['whack --status']:.1f}")


if __name__ == "__main__":
    main()
