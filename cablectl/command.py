"""Runs a command that changes the host, or a batch of them, through `sh`, within a time limit."""

import io
import re
import shlex
import threading
from collections.abc import Sequence

import sh

from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.libreswan import Argv

MAX_OUTPUT = 20  # lines of a failed command that an error repeats
_FAILED = re.compile(r"Command failed -:(\d+)")


def run(
    argv: Argv,
    limit: float,
    what: str,
    lock: int | None = None,
    *,
    stands_for: Argv = (),
    text: str = "",
    most: int = MAX_OUTPUT,
) -> str:
    """Run one command for at most `limit` seconds, with `text` to read; return what it printed.

    It keeps `lock` open: should this program be killed, the next one waits until the command ends.
    HostNotReadyError if it is not installed, TimeLimitError, or CablectlError with the command that
    it `stands_for`, if that is another one, and at `most` so many lines of output, the last ones.
    """
    output = io.BytesIO()

    def failed(kind: type[CablectlError], how: str) -> CablectlError:
        lines = output.getvalue().decode(errors="replace").splitlines()[-most:]
        shown = shlex.join(stands_for or argv)
        return kind(f"{what}: the command {how}", details=[f"$ {shown}", *lines])

    expired = threading.Event()

    def expire() -> None:
        expired.set()
        process.kill_group()

    try:
        # Not sh's own _timeout: it looks every 100 ms, which makes each command last that long.
        process = sh.Command(argv[0])(
            *argv[1:],
            _in=text,
            _out=output,
            _err_to_out=True,
            _tty_out=False,
            _bg=True,
            _bg_exc=False,
            _new_session=True,  # Ctrl-C is for this program, which then undoes
            _pass_fds=set() if lock is None else {lock},
        )
        timer = threading.Timer(limit, expire)
        timer.daemon = True
        timer.start()
        try:
            process.wait()
        except (KeyboardInterrupt, SystemExit):
            process.kill_group()
            raise
        finally:
            timer.cancel()
    except sh.CommandNotFound:
        raise failed(HostNotReadyError, "is not installed") from None
    except sh.ErrorReturnCode as error:
        if expired.is_set():
            raise failed(TimeLimitError, f"took longer than {limit:g} s") from None
        if error.exit_code < 0:
            raise failed(CablectlError, f"was killed by signal {-error.exit_code}") from None
        raise failed(CablectlError, f"failed with exit code {error.exit_code}") from None
    return output.getvalue().decode(errors="replace")


def batch(
    argvs: Sequence[Argv], limit: float, what: str, lock: int | None = None
) -> dict[int, CablectlError]:
    """Run commands of `ip`, or of `bridge`, in one process; return what failed, by its place.

    All are run, whatever one says. With one that doesn't even parse the process ends, and which
    one it was isn't told: then all that follow the last one that was told have failed.
    """
    lines = "".join(" ".join(argv[1:]) + "\n" for argv in argvs)
    program = (argvs[0][0], "-force", "-batch", "-")
    try:
        run(program, limit, what, lock, text=lines, most=MAX_OUTPUT * len(argvs))
    except (TimeLimitError, HostNotReadyError) as error:
        return dict.fromkeys(range(len(argvs)), error)
    except CablectlError as error:
        return _told(argvs, error, what)
    return {}


def _told(argvs: Sequence[Argv], error: CablectlError, what: str) -> dict[int, CablectlError]:
    failed: dict[int, CablectlError] = {}
    said: list[str] = []
    for line in error.details[1:]:
        if found := _FAILED.fullmatch(line):
            place = int(found[1]) - 1
            command = f"$ {shlex.join(argvs[place])}"
            failed[place] = CablectlError(f"{what}: the command failed", details=[command, *said])
            said = []
        else:
            said.append(line)
    if said or not failed:
        untold = range(max(failed, default=-1) + 1, len(argvs))
        failed |= dict.fromkeys(untold, CablectlError(error.message, details=error.details))
    return failed
