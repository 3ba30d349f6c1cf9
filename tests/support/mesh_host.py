"""Stand-ins for the commands of a mesh: what fails is chosen by a part of the command."""

from pathlib import Path

from msgspec.structs import replace

from cablectl.facts.host_facts import Facts, connected
from cablectl.linux import mss, xfrm
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.plan.steps import Outcome, Plan
from cablectl.run import execute
from tests.support.executor import LOADED, TRAFFIC, MakePlan, Told, in_turn
from tests.support.plans import BLANK

STAND_IN = """\
#!/bin/sh
name=${{0##*/}}
case "$name $*" in
    "ipsec --directory") echo "{folder}"; exit 0 ;;
    *--trafficstatus) cat "{folder}/traffic"; exit 0 ;;
    *--showstates) exit 0 ;;
    *--status) cat "{folder}/status"; exit 0 ;;
    *" --initiate --name "*) cat "{folder}/told"; exit 0 ;;
    "ip xfrm policy") cat "{folder}/policies"; exit 0 ;;
    *" -force -batch -")
        number=0 code=0
        while read -r line; do
            number=$((number + 1))
            printf '%s\\n' "$name $line" >>"{folder}/log"
            while read -r bad; do
                case "$name $line" in
                    *"$bad"*) echo "it broke"; echo "Command failed -:$number"; code=1 ;;
                esac
            done <"{folder}/fail_on" >&2
        done
        exit "$code" ;;
esac
printf '%s\\n' "$name $*" >>"{folder}/log"
while read -r bad; do
    case "$name $*" in *"$bad"*) cat "{folder}/why"; exit 7 ;; esac
done <"{folder}/fail_on"
exit 0
"""
NAMES = ("sh", "ip", "bridge", "ipsec", "modprobe", "nft", "pidof", "rm", "systemctl", "whack")


class Host:
    """The stand-ins: what they ran, what they say, and which are to fail."""

    def __init__(self, folder: Path, cables: tuple[Cable, ...]) -> None:
        self._folder = folder
        for name in NAMES:
            (folder / name).write_text(STAND_IN.format(folder=folder))
            (folder / name).chmod(0o755)
        for name in ("log", "told", "fail_on"):
            (folder / name).write_text("")
        (folder / "why").write_text("it broke\n")
        self.has(*cables)

    def has(self, *cables: Cable) -> None:
        """Have pluto and the kernel hold what these need."""
        connections = [each for cable in cables for each in cable.connections]
        lines = [TRAFFIC.format(i, each.name) for i, each in enumerate(connections, 1)]
        (self._folder / "traffic").write_text("".join(lines))
        lines = [LOADED.format(each.name) for each in connections]
        (self._folder / "status").write_text("".join(lines))
        self.sees(*(xfrm.policies(each)[0] for each in connections))

    def sees(self, *policies: xfrm.Policy) -> None:
        text = (
            f"src {each.source} dst {each.destination} proto {each.protocol}"
            + (f" sport {each.source_port}" if each.source_port else "")
            + (f" dport {each.destination_port}" if each.destination_port else "")
            + f" \n\tdir {each.direction} priority 1 ptype main \n"
            for each in policies
        )
        (self._folder / "policies").write_text("".join(text))

    def says(self, line: str) -> None:
        (self._folder / "told").write_text(f"{line}\n")

    def fails(self, *parts: str) -> None:
        (self._folder / "fail_on").write_text("".join(f"{part}\n" for part in parts))

    def fails_with(self, line: str) -> None:
        """Have the commands that fail print this line."""
        (self._folder / "why").write_text(f"{line}\n")

    @property
    def log(self) -> list[str]:
        return (self._folder / "log").read_text().splitlines()


def blank(cables: tuple[Cable, ...], limit: float = 1) -> Plan:
    return connect_plan.plan(cables, (BLANK,) * len(cables), limit=limit)


def up(cables: tuple[Cable, ...]) -> tuple[Facts, ...]:
    table = mss.wanted(cables, 1408)  # of the device that they share
    return tuple(replace(connected(cable, BLANK, 1408), mss=table) for cable in cables)


def apply(make_plan: MakePlan, told: Told) -> Outcome:
    return execute.apply(["vxlan-tunnel"], make_plan, told, wait=1)


def whole(cables: tuple[Cable, ...]) -> MakePlan:
    return in_turn(blank(cables), connect_plan.plan(cables, up(cables)))
