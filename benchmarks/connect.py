"""Compares the time of `connect` of many cables with a plain script and with `ipsec addconn`.

Run `tests/lab/boot .venv/bin/python -m benchmarks.connect [CABLES [ROUNDS [RELEASE]]]`. One gateway
connects to CABLES peers (100), ROUNDS (3) times, with Libreswan RELEASE (4.10). The peers are one
pluto with as many addresses. Three methods take turns, each with a freshly started pluto:

- connect: `cablectl connect`, with its start, its reading and its proof;
- script: the same commands (`plan --format sh`), run by `sh`;
- addconn: the script, but `ipsec addconn` loads, routes and initiates from an ipsec.conf.

After each method the states of pluto and of the kernel are compared.
"""

from __future__ import annotations

import difflib
import re
import statistics
import sys
import time
from collections.abc import Callable

from cablectl.config import native
from cablectl.facts.host_facts import Facts
from cablectl.libreswan import dialects, secrets_file
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.network import Network
from cablectl.model.wishes import CABLE
from cablectl.plan import connect_plan
from cablectl.plan.steps import WAIT_LIMIT, Phase
from tests.lab.cable import FILE, PSK, PSK_FILE
from tests.lab.gateways import Gateway, Lab
from tests.lab.rooms import PROGRAM, until

from .peers import HUB, address, document

_ARGUMENTS = dict(enumerate(sys.argv[1:]))
CABLES = int(_ARGUMENTS.get(0, "100"))
ROUNDS = int(_ARGUMENTS.get(1, "3"))
RELEASE = _ARGUMENTS.get(2, "4.10")
ALLOWED = 0.8  # the largest ratio of connect to the script
CONF, SCRIPT = "/tmp/ipsec.conf", "/tmp/connect.sh"  # noqa: S108 - /tmp of the gateway's root
LIMIT = 600.0  # seconds
CLEAN = (
    "ip link delete vxlan-tunnel; ip xfrm policy flush; ip xfrm state flush; nft flush ruleset;"
    " ip rule delete pref 241; rm -f /etc/ipsec.d/cablectl-*"
)
STATE = {
    "connections": "ipsec whack --status",
    "policies": "ip xfrm policy list nosock",
    "SAs": "ip xfrm state list nokeys",
    "links": "ip -d link show dev vxlan-tunnel; ip address show dev vxlan-tunnel",
    "fdb": "bridge fdb show dev vxlan-tunnel",
    "neighbours": "ip neigh show dev vxlan-tunnel nud permanent",
    "routes": "ip route show table 24141; ip rule",
    "nftables": "nft -s list ruleset",
}
# Text that differs in every run: counters, SPIs, times.
VOLATILE = re.compile(
    r"reqid \d+|spi 0x\w+|0x\w+|#\d+|\$\d+|in \d+s|esp\.\w+@\S+|\d+\(\w+\)|seq \S+|serial\S* \S+"
    r"|[A-Z]+_?in \d+|newest \w+ SA|^\d+: |(?:priority|oseq) \S+|age \S+"
)


def gateways(lab: Lab, network: Network, count: int, release: str) -> tuple[Gateway, Gateway]:
    """Return the gateway with its file, and that of the `count` peers, which wait for it."""
    hub = lab.gateway("hub", f"{HUB}/16", release=release)
    peers = lab.gateway("peers", "172.18.250.1/16", "2001:db8::2/64", release=release)
    peers.ip(*(f"address add {address(i)}/16 dev eth0" for i in range(count)))
    for gateway in (hub, peers):
        gateway.start_pluto()
    hub_end, *ends = network.endpoints
    cables = [cable for end in ends for cable in network.cables(end, [hub_end])]
    load_peers(peers, tuple(cables), release)
    hub.write(FILE, document(count))
    hub.write(PSK_FILE, f"{PSK}\n")
    return hub, peers


def load_peers(peers: Gateway, cables: tuple[Cable, ...], release: str) -> None:
    """Load the other end of each cable into the peers' pluto.

    All peers share this pluto, so each connection name gets a unique prefix.
    """
    facts = Facts(libreswan=dialects.parse_version(release))
    lines = [
        [_peer_word(number, word) for word in step.argv]
        for number, cable in enumerate(cables)
        for step in connect_plan.plan((cable,), (facts,)).steps
        if step.phase is Phase.ADD
    ]
    keys = b"".join(secrets_file.content(cable, PSK.encode()) for cable in cables)
    peers.write("/etc/ipsec.d/peers.secrets", keys.decode())
    peers.whack("--rereadsecrets")
    script = "".join(f"{' '.join(argv)} >/dev/null\n" for argv in lines)
    peers.run("sh", "-e", input=script, timeout=LIMIT)


def _peer_word(number: int, word: str) -> str:
    return f"{number}-{word}" if word.startswith(CABLE) else word


def ipsec_conf(cables: tuple[Cable, ...]) -> str:
    """Return the ipsec.conf with the same connections for `ipsec addconn`."""
    return "".join(_conn(connection) for cable in cables for connection in cable.connections)


def _conn(connection: Connection) -> str:
    left, right = (
        f"{end.protocol}/{end.port}" if end.port else f"{end.protocol}"
        for end in (connection.local, connection.remote)
    )
    dpd = (
        "dpdaction=hold\n\tdpddelay=30\n\tpfs=no\n\tfragmentation=no"
        if RELEASE < "5"
        else "dpddelay=30"
    )
    return f"""\
conn {connection.name}
\tauthby=secret
\ttype=transport
\tencapsulation=yes
\tleft={connection.local.host}
\tleftprotoport={left}
\tleftikeport=4500
\tleftupdown=%disabled
\tright={connection.remote.host}
\trightprotoport={right}
\trightikeport=4500
\t{dpd}
\tauto=start
"""


def state(hub: Gateway) -> dict[str, list[str]]:
    """Return the sorted lines of pluto's and the kernel's state, without volatile text."""
    return {
        kind: sorted(
            VOLATILE.sub("N", line).strip()
            for line in hub.run("sh", "-c", command, check=False).stdout.splitlines()
        )
        for kind, command in STATE.items()
    }


def reset(hub: Gateway, peers: Gateway) -> None:
    """Remove all cables and restart pluto."""
    hub.stop_pluto()
    hub.run("sh", "-c", f"{CLEAN}; true")
    until(lambda: not peers.whack("--trafficstatus"), "the end of the peers' Child SAs", 60)
    hub.start_pluto()


def run_connect(hub: Gateway) -> None:
    """Run `cablectl connect`."""
    hub.run(PROGRAM, "connect", FILE, "--timeout", f"{LIMIT:.0f}", timeout=LIMIT)


def run_script(hub: Gateway) -> None:
    """Run the script of the plan."""
    hub.run("sh", SCRIPT, timeout=LIMIT)


def run_addconn(hub: Gateway) -> None:
    """Run the script in which one addconn replaces the whack commands."""
    hub.run("sh", f"{SCRIPT}.addconn", timeout=LIMIT)


def write_scripts(hub: Gateway) -> None:
    """Write both scripts, with the time limit of connect."""
    text = hub.run(PROGRAM, "plan", FILE, "--format", "sh", timeout=LIMIT).stdout
    text = re.sub(rf" {WAIT_LIMIT}$", f" {LIMIT:.0f}", text, flags=re.MULTILINE)
    hub.write(SCRIPT, text)
    whacks = re.compile(r"^ipsec whack (?:--psk|--route|--initiate) .*\n", re.MULTILINE)
    first = whacks.search(text)
    assert first
    addconn = f"ipsec addconn --config {CONF} --autoall\n"
    without = text[: first.start()] + addconn + whacks.sub("", text[first.start() :])
    # auto=start installs no trap policies, so the script can't check them.
    policy_checks = re.compile(r"^ip xfrm policy get .*\n", re.MULTILINE)
    hub.write(f"{SCRIPT}.addconn", policy_checks.sub("", without))


METHODS: dict[str, Callable[[Gateway], None]] = {
    "connect": run_connect,
    "script": run_script,
    "addconn": run_addconn,
}


def main() -> None:
    """Print medians, ratios to the script, and differences; exit 1 if connect is too slow."""
    network = native.parse(document(CABLES), "bench.yaml")
    hub_cables = network.cables(network.endpoints[0])
    times: dict[str, list[float]] = {name: [] for name in METHODS}
    states: dict[str, dict[str, list[str]]] = {}
    with Lab() as lab:
        hub, peers = gateways(lab, network, CABLES, RELEASE)
        hub.write(FILE, f"{document(CABLES)}health: off\n")  # the peers answer no echoes
        hub.write(CONF, ipsec_conf(hub_cables))
        hub.run(PROGRAM, "connect", FILE, "--peer", "c1")  # loads the kernel's modules
        reset(hub, peers)
        write_scripts(hub)
        for number in range(ROUNDS):
            for name, method in METHODS.items():
                began = time.perf_counter()
                method(hub)
                times[name].append(time.perf_counter() - began)
                print(f"round {number + 1}: {name:10} {times[name][-1]:6.1f} s", flush=True)
                states[name] = state(hub)
                reset(hub, peers)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, median in medians.items():
        per_cable, ratio = median / CABLES * 1000, median / medians["script"]
        print(f"{name:10} {median:6.1f} s  {per_cable:6.0f} ms per cable  ratio {ratio:.2f}")
    for name in ("connect", "addconn"):
        print_differences(states["script"], states[name], name)
    sys.exit(medians["connect"] / medians["script"] > ALLOWED)


def print_differences(script: dict[str, list[str]], other: dict[str, list[str]], name: str) -> None:
    """Print how many lines each state has, and the first lines that differ."""
    for kind, lines in script.items():
        different = [
            line
            for line in difflib.unified_diff(lines, other[kind], n=0, lineterm="")
            if line[0] in "+-" and line[:3] not in ("+++", "---")
        ]
        print(f"{name:10} {kind:12} {len(lines)} lines, {len(different)} different")
        print("".join(f"    {line}\n" for line in different[:6]), end="")


if __name__ == "__main__":
    main()
