"""Stand-ins for the commands of a plan, and a progress that remembers."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from cablectl.errors import CablectlError
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.plan.steps import Plan, Step
from cablectl.run import execute

MakePlan = Callable[[], Plan]
STAND_IN = """\
#!/bin/sh
case "$*" in
    *--trafficstatus) cat "{folder}/traffic"; exit 0 ;;
    *--showstates | --directory) exit 0 ;;
    *--status) cat "{folder}/status"; exit 0 ;;
    "whack --initiate --name"*) cat "{folder}/late" >>"{folder}/traffic"
        cat "{folder}/told"; exit 0 ;;
esac
printf '%s\\n' "${{0##*/}} $*" >>"{folder}/log"
[ "$(wc -l <"{folder}/log")" -ne "$(cat "{folder}/fail_at")" ] || {{ cat "{folder}/why"; exit 7; }}
"""
# As --trafficstatus prints a Child SA.
TRAFFIC = '006 #{}: "{}", type=ESP, add_time=1795489788, inBytes=0, outBytes=0, maxBytes=2^63B\n'

# As --status prints a connection.
LOADED = '000 "{0}": 172.18.0.8...172.18.0.7; routed; eroute owner: #0\n'


class Commands:
    """The stand-ins: what they ran, and which one is to fail."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sh", "ip", "bridge", "ipsec", "modprobe", "nft", "pidof", "rm", "systemctl"):
            (folder / name).write_text(STAND_IN.format(folder=folder))
            (folder / name).chmod(0o755)
        for name in ("log", "traffic", "status", "told", "late"):
            (folder / name).write_text("")
        self.fail_at(0)
        self.fails_with("it broke")

    def fail_at(self, number: int) -> None:
        (self.folder / "fail_at").write_text(str(number))

    def fails_with(self, line: str) -> None:
        (self.folder / "why").write_text(f"{line}\n")

    def established(self, *names: str) -> None:
        lines = [TRAFFIC.format(i, name) for i, name in enumerate(names, 1)]
        (self.folder / "traffic").write_text("".join(lines))

    def loaded(self, *names: str) -> None:
        lines = [LOADED.format(name) for name in names]
        (self.folder / "status").write_text("".join(lines))

    @property
    def log(self) -> list[str]:
        return (self.folder / "log").read_text().splitlines()


class Told:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.steps: list[tuple[int, int]] = []
        self.undone: list[Argv] = []
        self.not_undone: list[str] = []
        self.lost: dict[str, CablectlError] = {}
        self.notes: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def begin(self, plan: Plan) -> None:
        self.warnings = plan.warnings

    def step(self, number: int, total: int, step: Step) -> None:
        self.steps.append((number, total))

    def waiting(self, left: Sequence[str], total: int, seconds: float) -> None:
        assert seconds >= 0
        assert 0 < len(left) <= total
        assert all(name.startswith("submariner-cable-") for name in left)

    def failed(self, cable: str, error: CablectlError) -> None:
        self.lost[cable] = error

    def undo(self, argv: Argv) -> None:
        self.undone.append(argv)

    def undo_failed(self, argv: Argv, error: CablectlError) -> None:
        self.not_undone.append(error.message)


def apply(cable: Cable, make_plan: MakePlan, told: Told) -> Plan:
    return execute.apply([cable.bundle], make_plan, told, wait=1).plan


def in_turn(*plans: Plan) -> MakePlan:
    """Return what the host looks like each time it is read: the last one stays."""
    left: Iterator[Plan] = iter(plans)
    last: list[Plan] = []

    def read() -> Plan:
        last.append(next(left, last[-1] if last else plans[-1]))
        return last[-1]

    return read


def words(argv: Argv) -> str:
    return " ".join(argv)
