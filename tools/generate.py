"""Make anew what is derived: man pages, completions, schemas, table of flags, golden scripts.

Run `python tools/generate.py` after a change of the command line, a man page, the model or a plan,
and read the difference. The tests fail while what is checked in differs from what this makes.
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
from tools import manual, report_schemas  # noqa: E402 - from the checkout itself

SHELLS = {"bash": "cablectl.bash", "zsh": "_cablectl", "fish": "cablectl.fish"}
AFTER = {
    "zsh": """
# zsh reads this at the first TAB, which is answered as well: Typer's own text only defines.
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
  _cablectl_completion "$@"
fi
"""
}


def completion(shell: str) -> str:
    """Return the completion as Typer emits it, and what it lacks."""
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
    """Return docs/flags.md: what each Libreswan is given, from the dialects themselves."""

    def words(argv: tuple[str, ...]) -> str:
        return f"`{' '.join(argv)}`" if argv else "nothing"

    rows: dict[str, Callable[[Dialect], str]] = {
        "`mode: transport`": lambda each: words(each.transport),
        "`mode: tunnel`": lambda each: words(each.tunnel),
        "`encapsulation: yes`, or NAT": lambda each: words(each.encapsulate),
        "`pfs_group`": lambda each: f"`{each.pfs.value}`",
        "`esn: yes`": lambda each: words(each.esn),
        "`dpd.action`": lambda each: "`--dpdaction ACTION`" if each.dpd_action else "nothing",
        "`offload: auto`, NIC with ESP, no UDP": lambda each: words(each.offload_if_it_can),
        "`offload: required`": lambda each: words(each.offload),
        "`offload: packet`": lambda each: (
            "`--nic-offload packet`" if each.packet_offload else "refused"
        ),
        "`offload: off`": lambda each: words(each.no_offload),
        "`ipsec _stackmanager start`": lambda each: (
            "run" if each.stack_manager else "there is none; `modprobe`"
        ),
    }
    since = [f"{each.since} and later" for each in DIALECTS]
    lines = [
        "# Flags by release",
        "",
        "What `ipsec whack` is given. Made by `make docs` from `DIALECTS` in",
        "`cablectl/libreswan/dialects.py`; [libreswan.md](libreswan.md) has what was measured.",
        "",
        f"| | {' | '.join(since)} |",
        "|---" * (1 + len(since)) + "|",
        *(f"| {name} | {' | '.join(map(told, DIALECTS))} |" for name, told in rows.items()),
    ]
    return "\n".join(lines) + "\n"


def derived() -> dict[Path, str]:
    """Return every derived file and what it is to hold."""
    docs = ROOT / "docs"
    files = manual.pages()
    files[docs / "flags.md"] = flag_table()
    files[docs / "cablectl.schema.json"] = json_schema.as_text()
    files |= {docs / f"{kind}.schema.json": report_schemas.as_text(kind) for kind in KINDS}
    files |= {ROOT / "completions" / name: completion(shell) for shell, name in SHELLS.items()}
    return files | {GOLDEN / f"{name}.sh": script_of(name) for name in NAMES}


def main() -> None:
    """Write them."""
    for path, text in derived().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        print(path.relative_to(ROOT))


if __name__ == "__main__":
    main()
