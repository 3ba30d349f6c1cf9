"""`make pictures`: the program's output on two real gateways, as SVG for the README.

The files are written into the directory LAB_RESULTS, which tests/lab/boot keeps.
"""

from __future__ import annotations

import io
import os
import shlex
from pathlib import Path

from rich.console import Console
from rich.text import Text

from .cable import FILE, bring_up, prepare, run, tear_down
from .gateways import Gateway, Lab
from .rooms import PROGRAM

COLUMNS = 80
PIPED = ("connect",)
CHANGED = "vxlan: {mtu: 1400}\n"


def main() -> None:
    """Draw a picture of each command."""
    with Lab() as lab:
        c1 = lab.gateway("c1", "172.18.0.8/16")
        c2 = lab.gateway("c2", "172.18.0.7/16")
        for gateway in (c1, c2):
            gateway.start_pluto()
            prepare(gateway)
        with c2.popen(PROGRAM, "connect", FILE) as peer:
            draw(c1, "connect", "connect", FILE)
            peer.communicate(timeout=150)
        draw(c1, "status", "status", FILE)
        draw(c1, "verify", "verify", FILE, "--size-sweep")
        c1.write(FILE, c1.read(FILE) + CHANGED)
        draw(c1, "plan", "plan", FILE)
        run(c1, "connect", FILE)
        bring_up(c1, c2)
        tear_down(c1, c2)


def draw(gateway: Gateway, name: str, *args: str) -> None:
    """Run the program on a terminal, and write its output as a picture."""
    # On a terminal, connect shows its steps in one moving line; in a pipe, one line for each step.
    command = shlex.join(("env", "--unset=NO_COLOR", "TERM=xterm-256color", PROGRAM, *args))
    shell = f"stty cols {COLUMNS}; {command}" + " 2>&1 | cat" * (name in PIPED)
    done = gateway.run("script", "-q", "-c", shell, "/dev/null", check=False, timeout=150)
    console = Console(record=True, width=COLUMNS, file=io.StringIO())
    console.print(Text(f"# cablectl {shlex.join(args)}", style="bold"))
    console.print(Text.from_ansi(done.stdout.replace("\r\n", "\n")))
    console.save_svg(str(Path(os.environ["LAB_RESULTS"]) / f"{name}.svg"), title="cablectl")


if __name__ == "__main__":
    main()
