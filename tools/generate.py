"""Generates the derived files: man pages, completions, schemas, table of flags, golden scripts.

The dashboard and the tests of the alarms are derived, too.
Run `python tools/generate.py` after a change of the command line, a man page, the model or a plan,
and read the difference. A test fails while a checked-in file differs from the generated file.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

from cablectl.config import json_schema  # noqa: E402 - from the checkout itself
from cablectl.libreswan.dialects import DIALECTS, Dialect  # noqa: E402 - from the checkout itself
from cablectl.render.envelope import KINDS  # noqa: E402 - from the checkout itself
from tests.support.golden import NAMES, script_of  # noqa: E402 - from the checkout itself
from tests.support.places import GOLDEN  # noqa: E402 - from the checkout itself
from tools import alarm_tests, dashboard, manual, report_schemas  # noqa: E402 - from the checkout itself

SHELLS = {"bash": "cablectl.bash", "zsh": "_cablectl", "fish": "cablectl.fish"}
AFTER = {
    "zsh": """
# zsh loads this file at the first TAB. Typer's text only defines the function; this line calls it.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _cablectl_completion "$@"
fi
"""
}


def completion(shell: str) -> str:
    """Return a shell's completion: Typer's text, and the addition for that shell."""
    done = subprocess.run(
        [sys.executable, "-m", "cablectl"],
        env={**os.environ, "_CABLECTL_COMPLETE": f"source_{shell}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        cwd=ROOT,
    )
    return done.stdout.strip() + "\n" + AFTER.get(shell, "")


def flag_table() -> str:
    """Return docs/flags.md: the whack options of each release, from the dialects."""

    def words(argv: tuple[str, ...]) -> str:
        return f"`{' '.join(argv)}`" if argv else "nothing"

    def option(name: str, value: str) -> str:
        return f"`{name} {value}`" if name else "nothing"

    rows: dict[str, Callable[[Dialect], str]] = {
        "addresses of IPv6": lambda row: words(row.ipv6),
        "`mode: transport`": lambda row: words(row.transport),
        "`mode: tunnel`": lambda row: words(row.tunnel),
        "`encapsulation: yes`, or NAT": lambda row: words(row.encapsulate),
        "`pfs_group`": lambda _: "`--pfs --esp 'ALG;GROUP,ALG;GROUP'`",
        "`ike`": lambda row: option(row.ike, "'PROPOSAL,PROPOSAL'"),
        "`replay_window`": lambda row: option(row.replay_window, "PACKETS"),
        "`ike_lifetime`": lambda row: option(row.ike_lifetime, "SECONDS"),
        "`sa_lifetime`": lambda row: option(row.child_lifetime, "SECONDS"),
        "`max_bytes`": lambda row: option(row.max_bytes, "BYTES") if row.max_bytes else "refused",
        "`esn: yes`": lambda row: words(row.esn),
        "`dpd.action`": lambda row: "`--dpdaction ACTION`" if row.dpd_action else "nothing",
        "`dpd.delay`": lambda row: (
            "`--dpddelay N --dpdtimeout 2N`" if row.dpd_timeout else "`--dpddelay N`"
        ),
        "`offload: auto`, NIC with ESP, no UDP": lambda row: words(row.offload_if_it_can),
        "`offload: required`": lambda row: words(row.offload),
        "`offload: packet`": lambda row: (
            "`--nic-offload packet`" if row.packet_offload else "refused"
        ),
        "`offload: off`": lambda row: words(row.no_offload),
        "`ipsec _stackmanager start`": lambda row: (
            "run" if row.stack_manager else "doesn't exist; `modprobe`"
        ),
        "a mesh's add, route and initiate": lambda row: (
            "one `whack`" if row.combines else "a `whack` for each"
        ),
    }
    unused: dict[str, Callable[[Dialect], str]] = {
        "rekey margin": lambda row: option(row.rekey_margin, "SECONDS"),
        "rekey fuzz": lambda row: option(row.rekey_fuzz, f"PERCENT{row.rekey_fuzz_unit}"),
    }
    since = [f"{row.since} and later" for row in DIALECTS]
    head = [f"| | {' | '.join(since)} |", "|---" * (1 + len(since)) + "|"]

    def table(cells: dict[str, Callable[[Dialect], str]]) -> list[str]:
        return [
            *head,
            *(f"| {name} | {' | '.join(map(cell, DIALECTS))} |" for name, cell in cells.items()),
        ]

    lines = [
        "# Flags by release",
        "",
        "The options of `ipsec whack`. `make docs` generates this table from `DIALECTS` in",
        "`cablectl/libreswan/dialects.py`; [libreswan.md](libreswan.md) has the measurements.",
        "`tests/lab/test_whack.py` gives pluto every connection with these options, on every",
        "release [that you have](libreswan.md#the-lab-with-another-libreswan).",
        "",
        *table(rows),
        "",
        "No field of the file uses these options yet. `tests/lab/test_whack.py` tries them:",
        "",
        *table(unused),
    ]
    return "\n".join(lines) + "\n"


def derived() -> dict[Path, str]:
    """Return the content of every derived file, by its path."""
    docs = ROOT / "docs"
    files = manual.pages()
    files[docs / "flags.md"] = flag_table()
    files[docs / "cablectl.schema.json"] = json_schema.as_text()
    files |= {docs / f"{kind}.schema.json": report_schemas.as_text(kind) for kind in KINDS}
    files |= {ROOT / "completions" / name: completion(shell) for shell, name in SHELLS.items()}
    files[dashboard.DASHBOARD] = dashboard.as_text()
    files[alarm_tests.TESTS] = alarm_tests.as_text()
    return files | {GOLDEN / f"{name}.sh": script_of(name) for name in NAMES}


def main() -> None:
    """Write the derived files."""
    for path, text in derived().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
