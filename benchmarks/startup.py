"""Measures the time of a dry run as a ratio to the import of Typer and PyYAML.

Run `make bench`, or `python benchmarks/startup.py` in the environment where cablectl is installed.
In an editable installation, first run `python -m compileall cablectl`; pip compiles only the files
that it copies. The two commands take turns, so that a busy machine slows both. The result is the
ratio of their median times.
"""

import statistics
import subprocess
import sys
import time
from pathlib import Path

ROUNDS = 31
ALLOWED = 1.5
EXAMPLE = Path(__file__).parent.parent / "examples" / "quickstart.yaml"
PLAN = ("plan", str(EXAMPLE), "--dry-run", "--local", "cluster1")
COMMANDS = {
    "import typer, yaml": (sys.executable, "-c", "import typer, yaml"),
    "plan --dry-run": (str(Path(sys.executable).parent / "cablectl"), *PLAN),
}


def seconds(argv: tuple[str, ...]) -> float:
    """Run a command, which has to succeed; return its duration in seconds."""
    began = time.perf_counter()
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def main() -> None:
    """Print both medians and their ratio; exit 1 if the ratio exceeds ALLOWED."""
    times: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(ROUNDS):
        for name, argv in COMMANDS.items():
            times[name].append(seconds(argv))
    medians = {name: statistics.median(values[1:]) for name, values in times.items()}
    for name, median in medians.items():
        print(f"{name:20} {median * 1000:6.0f} ms")
    base, plan = medians.values()
    print(f"{'ratio':20} {plan / base:6.2f}    allowed: {ALLOWED}")
    sys.exit(plan / base > ALLOWED)


if __name__ == "__main__":
    main()
