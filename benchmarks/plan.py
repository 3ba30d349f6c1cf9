"""How long and how large a plan for one of N gateways is, and how both grow with N.

Run `make bench`, or `python benchmarks/plan.py` in the environment where cablectl is installed. The
whole process is measured, from its start to its end, with the file read and the script written. The
sizes take turns; of the times the medians count, of the memory the most. The slope is that of the
line through the logarithms of time and N: 1 is in proportion.
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
LIMIT = 1000  # gateways for which these hold:
SECONDS = 2.0
MEBIBYTES = 200.0
SLOPE = 1.1
PROGRAM = str(Path(sys.executable).parent / "cablectl")


def document(count: int) -> str:
    """Return a file with so many gateways, each with a subnet."""
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
    """Plan for one gateway of a file; return the seconds that took, and the MiB of the process."""
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
    """Return the slope of the line of least squares through the points' logarithms."""
    x = [math.log(size) for size, _ in points]
    y = [math.log(seconds) for _, seconds in points]
    return statistics.linear_regression(x, y).slope


def main() -> None:
    """Print time and memory for each size, and the slope; fail if a limit is passed."""
    times: dict[int, list[float]] = {size: [] for size in SIZES}
    most = dict.fromkeys(SIZES, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        files = {size: Path(folder, f"{size}.yaml") for size in SIZES}
        for size, file in files.items():
            file.write_text(document(size))
        for _ in range(ROUNDS):
            for size, file in files.items():
                seconds, mebibytes = measured(file)
                times[size].append(seconds)
                most[size] = max(most[size], mebibytes)
    medians = {size: statistics.median(each) for size, each in times.items()}
    for size in SIZES:
        print(f"1 of {size:<5} gateways {medians[size]:6.2f} s  {most[size]:5.0f} MiB")
    growth = slope(list(medians.items()))
    print(f"allowed for {LIMIT:5}   {SECONDS:6.2f} s  {MEBIBYTES:5.0f} MiB")
    print(f"slope               {growth:6.2f}    allowed: {SLOPE}")
    sys.exit(medians[LIMIT] > SECONDS or most[LIMIT] > MEBIBYTES or growth > SLOPE)


if __name__ == "__main__":
    main()
