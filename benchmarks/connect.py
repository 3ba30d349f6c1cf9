"""How long `connect` of many cables takes, against a plain script and against `ipsec addconn`.

Run `tests/lab/boot .venv/bin/python -m benchmarks.connect [CABLES [ROUNDS [RELEASE]]]`. One gateway
connects to CABLES peers (100), which are one pluto with as many addresses, ROUNDS (3) times, with
Libreswan RELEASE (4.10). Three ways take turns, each from a pluto that was just started:

- connect: `cablectl connect`, all of it: its start, what it reads, its proof;
- script: the very commands that it needs (`plan --format sh`), run by `sh`;
- addconn: this script, but `ipsec addconn` loads, routes and initiates from an ipsec.conf.

At the end of each the states of pluto and of the kernel are compared.
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
from cablectl.model.cable import Cable, Connection
from cablectl.model.wishes import CABLE
from cablectl.plan import connect_plan
from cablectl.plan.steps import WAIT_LIMIT, Phase
from tests.lab.cable import FILE, PSK, PSK_FILE
from tests.lab.gateways import Gateway, Lab
from tests.lab.rooms import PROGRAM, until

from .peers import HUB, address, document

_ARGUMENTS = (*sys.argv[1:], *("100", "3", "4.10")[len(sys.argv) - 1 :])
CABLES, ROUNDS, RELEASE = int(_ARGUMENTS[0]), int(_ARGUMENTS[1]), _ARGUMENTS[2]
ALLOWED = 0.8
CONF, SCRIPT = "/tmp/ipsec.conf", "/tmp/connect.sh"  # noqa: S108 - the room's own
LIMIT = 600.0  # seconds
CLEAN = (
    "ip link delete vxlan-tunnel; ip xfrm policy flush; ip xfrm state flush; nft flush ruleset;"
    " ip rule delete pref 100; rm -f /etc/ipsec.d/cablectl-*"
)
STATE = {
    "connections": "ipsec whack --status",
    "policies": "ip xfrm policy list nosock",
    "SAs": "ip xfrm state list nokeys",
    "links": "ip -d link show dev vxlan-tunnel; ip address show dev vxlan-tunnel",
    "fdb": "bridge fdb show dev vxlan-tunnel",
    "neighbours": "ip neigh show dev vxlan-tunnel nud permanent",
    "routes": "ip route show table 100; ip rule",
    "nftables": "nft -s list ruleset",
}
# What no two runs have in common: numbers that count up, SPIs, times.
PASSING = re.compile(
    r"reqid \d+|spi 0x\w+|0x\w+|#\d+|\$\d+|in \d+s|esp\.\w+@\S+|\d+\(\w+\)|seq \S+|serial\S* \S+"
    r"|[A-Z]+_?in \d+|newest \w+ SA|^\d+: |(?:priority|oseq) \S+|age \S+"
)


def load_peers(peers: Gateway, cables: tuple[Cable, ...]) -> None:
    """Have the peers' pluto answer each cable, with the words of its own end.

    Each end would give its connections the same names, and here they share a pluto. They run no
    script for what comes up: elsewhere that is another machine's work.
    """
    facts = Facts(libreswan=dialects.parse_version(RELEASE))
    lines = [
        [_of_peer(number, word) for word in step.argv]
        for number, cable in enumerate(cables)
        for step in connect_plan.plan((cable,), (facts,)).steps
        if step.phase is Phase.ADD
    ]
    keys = b"".join(secrets_file.content(cable, PSK.encode()) for cable in cables)
    peers.write("/etc/ipsec.d/peers.secrets", keys.decode())
    peers.whack("--rereadsecrets")
    whole = "".join(f"{' '.join(argv)} >/dev/null\n" for argv in lines)
    peers.run("sh", "-e", input=whole, timeout=LIMIT)


def _of_peer(number: int, word: str) -> str:
    if word == "--to":
        return "--updown %disabled --to"
    return f"{number}-{word}" if word.startswith(CABLE) else word


def ipsec_conf(cables: tuple[Cable, ...]) -> str:
    """Return the same connections for `ipsec addconn`."""
    return "".join(_conn(each) for cable in cables for each in cable.connections)


def _conn(each: Connection) -> str:
    own, other = (
        f"{end.protocol}/{end.port}" if end.port else f"{end.protocol}"
        for end in (each.local, each.remote)
    )
    dpd = (
        "dpdaction=hold\n\tdpddelay=30\n\tpfs=no\n\tfragmentation=no"
        if RELEASE < "5"
        else "dpddelay=30"
    )
    return f"""\
conn {each.name}
\tauthby=secret
\ttype=transport
\tencapsulation=yes
\tleft={each.local.host}
\tleftprotoport={own}
\tleftikeport=4500
\tright={each.remote.host}
\trightprotoport={other}
\trightikeport=4500
\t{dpd}
\tauto=start
"""


def state(hub: Gateway) -> dict[str, list[str]]:
    """Return the lines of what pluto and the kernel have, without what passes."""
    return {
        kind: sorted(
            PASSING.sub("N", line).strip()
            for line in hub.run("sh", "-c", command, check=False).stdout.splitlines()
        )
        for kind, command in STATE.items()
    }


def fresh(hub: Gateway, peers: Gateway) -> None:
    """Have the gateway as it was before any cable."""
    hub.stop_pluto()
    hub.run("sh", "-c", f"{CLEAN}; true")
    until(lambda: not peers.whack("--trafficstatus"), "the end of the peers' Child SAs", 60)
    hub.start_pluto()


def by_connect(hub: Gateway) -> None:
    """Run `cablectl connect`."""
    hub.run(PROGRAM, "connect", FILE, "--timeout", f"{LIMIT:.0f}", timeout=LIMIT)


def by_script(hub: Gateway) -> None:
    """Run the script of the plan."""
    hub.run("sh", SCRIPT, timeout=LIMIT)


def by_addconn(hub: Gateway) -> None:
    """Run it with one addconn in place of every whack that adds, routes or initiates."""
    hub.run("sh", f"{SCRIPT}.addconn", timeout=LIMIT)


def scripts(hub: Gateway) -> None:
    """Write both scripts, which wait for as long as connect does."""
    text = hub.run(PROGRAM, "plan", FILE, "--format", "sh", timeout=LIMIT).stdout
    text = re.sub(rf" {WAIT_LIMIT}$", f" {LIMIT:.0f}", text, flags=re.MULTILINE)
    hub.write(SCRIPT, text)
    whacks = re.compile(r"^ipsec whack (?:--psk|--route|--initiate) .*\n", re.MULTILINE)
    first = whacks.search(text)
    assert first
    addconn = f"ipsec addconn --config {CONF} --autoall\n"
    without = text[: first.start()] + addconn + whacks.sub("", text[first.start() :])
    # auto=start routes nothing: the policies come with the SAs.
    looks = re.compile(r"^ip xfrm policy get .*\n", re.MULTILINE)
    hub.write(f"{SCRIPT}.addconn", looks.sub("", without))


WAYS: dict[str, Callable[[Gateway], None]] = {
    "connect": by_connect,
    "script": by_script,
    "addconn": by_addconn,
}


def main() -> None:
    """Print medians, ratios to the script, and what differs; fail if connect is too slow."""
    network = native.parse(document(CABLES), "bench.yaml")
    hub_cables = network.cables(network.endpoints[0])
    times: dict[str, list[float]] = {name: [] for name in WAYS}
    states: dict[str, dict[str, list[str]]] = {}
    with Lab() as lab:
        hub = lab.gateway("hub", f"{HUB}/16", release=RELEASE)
        peers = lab.gateway("peers", "172.18.250.1/16", "2001:db8::2/64", release=RELEASE)
        peers.ip(*(f"address add {address(i)}/16 dev eth0" for i in range(CABLES)))
        for gateway in (hub, peers):
            gateway.start_pluto()
        back = (network.cables(end, [network.endpoints[0]]) for end in network.endpoints[1:])
        load_peers(peers, tuple(cable for each in back for cable in each))
        hub.write(FILE, document(CABLES))
        hub.write(PSK_FILE, f"{PSK}\n")
        hub.write(CONF, ipsec_conf(hub_cables))
        hub.run(PROGRAM, "connect", FILE, "--peer", "c1")  # loads the kernel's modules
        fresh(hub, peers)
        scripts(hub)
        for number in range(ROUNDS):
            for name, way in WAYS.items():
                began = time.perf_counter()
                way(hub)
                times[name].append(time.perf_counter() - began)
                print(f"round {number + 1}: {name:10} {times[name][-1]:6.1f} s", flush=True)
                states[name] = state(hub)
                fresh(hub, peers)
    medians = {name: statistics.median(each) for name, each in times.items()}
    for name, median in medians.items():
        each, ratio = median / CABLES * 1000, median / medians["script"]
        print(f"{name:10} {median:6.1f} s  {each:6.0f} ms each  ratio {ratio:.2f}")
    for name in ("connect", "addconn"):
        tell_differences(states["script"], states[name], name)
    sys.exit(medians["connect"] / medians["script"] > ALLOWED)


def tell_differences(script: dict[str, list[str]], other: dict[str, list[str]], name: str) -> None:
    """Print how many lines the states have, and those in which they differ."""
    for kind, lines in script.items():
        differs = [
            line
            for line in difflib.unified_diff(lines, other[kind], n=0, lineterm="")
            if line[0] in "+-" and line[:3] not in ("+++", "---")
        ]
        print(f"{name:10} {kind:12} {len(lines)} lines, differ: {len(differs)}")
        print("".join(f"    {line}\n" for line in differs[:6]), end="")


if __name__ == "__main__":
    main()
