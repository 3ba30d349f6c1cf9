"""`make demo`: the main job on two real gateways, with every command and its output."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from .cable import EXAMPLES, FILE, VTEP, child_sas, prepare
from .gateways import Gateway, Lab
from .rooms import PROGRAM

LIMIT = 300  # seconds for a command: under emulation, beside other work, each takes long
CONNECT = ("connect", FILE, "--timeout", "180")


def main() -> None:
    """Show the main job; exit code 1 if a command fails, or a clear packet is captured."""
    say("Two gateways; pluto runs on each, and both have the same file:")
    print(indented((EXAMPLES / "quickstart.yaml").read_text()))
    with Lab() as lab:
        c1 = lab.gateway("c1", "172.18.0.8/16")
        c2 = lab.gateway("c2", "172.18.0.7/16")
        for gateway in (c1, c2):
            gateway.start_pluto()
            prepare(gateway)
        say("Dry run: the commands that connect would run.")
        show(c1, "plan", FILE, "--dry-run")
        with lab.capture() as wire:
            say("Connect on both gateways at the same time:")
            print(f"c2# cablectl {' '.join(CONNECT)}", flush=True)
            with c2.popen(PROGRAM, *CONNECT) as other:
                show(c1, *CONNECT)
                print(indented(other.communicate(timeout=LIMIT)[0]))
            say(f"Child SAs of c1: {', '.join(child_sas(c1))}")
            say("Ping over the overlay with the largest packet that fits:")
            show_command(c1, "ping", "-c", "3", "-i", "0.2", "-M", "do", "-s", "1380", VTEP["c2"])
            say("Connect again: nothing is left to do.")
            show(c1, "connect", FILE)
            say("Tear the cable down.")
            show(c1, "teardown", FILE)
            show(c2, "teardown", FILE)
        say("Captured on the wire meanwhile: frames, and the longest frame in bytes:")
        for name, tally in wire.summary().items():
            label = "overlay in clear text" if name == "overlay" else name
            print(f"    {label:24}{tally.frames:6}{tally.largest:8}")
        sys.exit(wire.summary()["overlay"].frames > 0)


def say(text: str) -> None:
    print(f"\n=== {text}", flush=True)


def indented(text: str) -> str:
    return "".join(f"    {line}\n" for line in text.splitlines())


def show(gateway: Gateway, *args: str) -> None:
    """Run the program, and print command and output."""
    show_command(gateway, PROGRAM, *args)


def show_command(gateway: Gateway, *argv: str) -> None:
    print(f"{gateway.name}# {shlex.join((Path(argv[0]).name, *argv[1:]))}", flush=True)
    done = gateway.run("sh", "-c", 'exec "$@" 2>&1', "sh", *argv, check=False, timeout=LIMIT)
    print(indented(done.stdout), flush=True)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, argv)


if __name__ == "__main__":
    main()
