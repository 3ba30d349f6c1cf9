"""Measures the time and memory of a plan for one of N gateways, and how the time grows with N.

Run `make bench`, or `python benchmarks/plan.py` in the environment where cablectl is installed. The
measurement covers the whole process, with reading the file and writing the script. The sizes take
turns. The results are the median time and the largest memory. The slope is the slope of a line
through the logarithms of time and N; 1 means that the time is proportional to N.
"""

import math
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

SIZES = (10, 100, 1000, 2000)
ROUNDS = 5
LIMIT = 1000  # gateways; the limits of time and memory apply to this size
SECONDS = 2.0
MEBIBYTES = 200.0
SLOPE = 1.1  # the largest slope allowed
PROGRAM = str(Path(sys.executable).parent / "cablectl")


def document(count: int) -> str:
    """Return a file with `count` gateways, each with a subnet."""
    lines = ["version: 1", "mode: transport", "overlay: vxlan", "endpoints:"]
    for i in range(count):
        lines += [
            f"  - cluster: cluster{i}",
            f"    hostname: gateway{i}",
            f"    address: 172.{16 + i // 250}.{i % 250}.1",
            f"    subnets: [10.{i // 250}.{i % 250}.0/24]",
        ]
    return "\n".join(lines) + "\n"


def measured(file: Path) -> tuple[float, float]:
    """Run a plan for one gateway of a file; return its seconds, and its MiB of memory."""
    argv = (PROGRAM, "plan", str(file), "--dry-run", "--local", "cluster0")
    began = time.perf_counter()
    child = os.posix_spawn(
        PROGRAM,
        argv,
        os.environ,
        file_actions=[(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)],
    )
    _, status, usage = os.wait4(child, 0)
    if status:
        sys.exit(f"{' '.join(argv)} failed")
    return time.perf_counter() - began, usage.ru_maxrss / 1024


def slope(points: list[tuple[int, float]]) -> float:
    """Return the slope of the least-squares line through the logarithms of the points."""
    x = [math.log(size) for size, _ in points]
    y = [math.log(seconds) for _, seconds in points]
    return statistics.linear_regression(x, y).slope


def main() -> None:
    """Print time and memory for each size, and the slope; exit 1 if one exceeds its limit."""
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    memory = dict.fromkeys(SIZES, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        files = {size: Path(folder, f"{size}.yaml") for size in SIZES}
        for size, file in files.items():
            file.write_text(document(size))
        for _ in range(ROUNDS):
            for size, file in files.items():
                seconds, mebibytes = measured(file)
                times[size].append(seconds)
                memory[size] = max(memory[size], mebibytes)
    medians = {size: statistics.median(values) for size, values in times.items()}
    for size in SIZES:
        print(f"1 of {size:<5} gateways {medians[size]:6.2f} s  {memory[size]:5.0f} MiB")
    growth = slope(list(medians.items()))
    print(f"allowed for {LIMIT:5}   {SECONDS:6.2f} s  {MEBIBYTES:5.0f} MiB")
    print(f"slope               {growth:6.2f}    allowed: {SLOPE}")
    sys.exit(medians[LIMIT] > SECONDS or memory[LIMIT] > MEBIBYTES or growth > SLOPE)


if __name__ == "__main__":
    main()
