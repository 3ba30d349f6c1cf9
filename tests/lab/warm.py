"""The program, imported once and forked for each run, so that many runs take less time.

Each line of standard input is a number N and a command line; SIGKILL kills the run when it
announces its N-th step (0: never, NEW: the first one at which no run was killed before), whichever
plan that step is of. The answer is a line of JSON: exit code, and all output.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys

from .gateways import Gateway
from .rooms import CHECKOUT

NEW = -1
STEP = re.compile(r"\[\d+/\d+\] (.*)")  # a line of the output that announces a step


class Warm:
    """The program on a gateway; the caller must call `close`."""

    def __init__(self, gateway: Gateway) -> None:
        self._process = gateway.popen(
            "env", f"PYTHONPATH={CHECKOUT}", sys.executable, "-m", __name__
        )

    def run(self, *args: str, kill_at: int = 0) -> tuple[int, str]:
        """Run the program; return exit code (-9 if it was killed) and output."""
        assert self._process.stdin
        assert self._process.stdout
        print(kill_at, *args, file=self._process.stdin, flush=True)
        code, output = json.loads(self._process.stdout.readline() or self._process.stderr.read())  # type: ignore[union-attr]
        return int(code), str(output)

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def main() -> None:
    """Run the program for each line of standard input."""
    from cablectl import cli
    from cablectl.run import execute  # imported here, since the import takes the time

    assert execute
    killed_at = set[str]()
    for line in sys.stdin:
        number, *args = line.split()
        read, write = os.pipe()
        pid = os.fork()
        if not pid:
            os.dup2(write, 1)
            os.dup2(write, 2)
            sys.argv = ["cablectl", *args]
            try:
                cli.main()
            except SystemExit as end:
                sys.stdout.flush()
                os._exit(int(end.code or 0))
        os.close(write)
        output, announced = "", 0
        with os.fdopen(read) as stream:
            for text in stream:
                output += text
                if not (step := STEP.match(text)):
                    continue
                announced += 1
                is_new = int(number) == NEW and step[1] not in killed_at
                if is_new or announced == int(number):
                    killed_at.add(step[1])
                    os.kill(pid, signal.SIGKILL)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps([code, output]), flush=True)


if __name__ == "__main__":
    main()
