"""Runs the commands that change the host, through `sh`: one, a batch, or one after the other."""

import io
import os
import re
import shlex
import shutil
import threading
import time
from collections.abc import Collection, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import sh

from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.host.command_log import CommandTimer
from cablectl.model.argv import Argv
from cablectl.run.signals import deferred, leave, readable

SHELL = "/bin/sh"
MAX_OUTPUT = 20  # last lines of a failed command, which an error repeats
_BATCH_FAILED = re.compile(r"Command failed -:(\d+)")
_END = re.compile(rb"\n(\d+) end of command\n\Z")


def run(
    argv: Argv,
    limit: float,
    phase: str,
    locks: Collection[int] = (),
    *,
    text: str = "",
    most: int = MAX_OUTPUT,
) -> str:
    """Run one command for at most `limit` seconds with `text` as its input; return its output.

    The command keeps `locks` open: if this program is killed, the next cablectl waits until the
    command ends. HostNotReadyError if the command is not installed, TimeLimitError, or
    CablectlError with the last `most` lines of its output. `phase` begins the error's message.
    """
    output = io.BytesIO()
    expired = threading.Event()
    watch = CommandTimer(argv, text)

    process: sh.RunningCommand | None = None

    def kill() -> None:
        if process is not None:  # `if process` would wait for it
            process.kill_group()

    def expire() -> None:
        expired.set()
        kill()

    timer = threading.Timer(limit, expire)
    timer.daemon = True
    try:
        # A signal that comes while the command starts is handled when there is a group to kill.
        with _signals_deferred():
            # sh's own _timeout looks every 100 ms, which makes each command last that long.
            process = sh.Command(argv[0])(*argv[1:], _in=text, _out=output, **_options(locks))
            timer.start()
        _await_end(process)
    except (KeyboardInterrupt, SystemExit):
        kill()
        watch.ended("interrupted")
        raise
    except sh.CommandNotFound:
        watch.ended("not installed")
        raise _failure(argv, phase, b"", "is not installed", HostNotReadyError) from None
    except sh.ErrorReturnCode as error:
        if expired.is_set():
            watch.ended("time limit")
        else:
            watch.exited(error.exit_code)
        how, kind = _how(error.exit_code, limit if expired.is_set() else None)
        raise _failure(argv, phase, output.getvalue(), how, kind, most) from None
    finally:
        timer.cancel()
    watch.exited(0)
    return output.getvalue().decode(errors="replace")


def _await_end(process: sh.RunningCommand) -> None:
    """Wait for a command, so that a signal always ends the wait."""
    with suppress(ProcessLookupError):  # it has ended already
        ended = os.pidfd_open(process.pid)
        try:
            readable(ended)
        finally:
            os.close(ended)
    process.wait()


def _signals_deferred() -> AbstractContextManager[None]:
    """Defer signals in the main thread, the only thread that handles them."""
    main = threading.current_thread() is threading.main_thread()
    return deferred(leave) if main else nullcontext()


def _options(locks: Collection[int]) -> dict[str, Any]:
    return {
        "_err_to_out": True,
        "_tty_out": False,
        "_bg": True,
        "_bg_exc": False,
        "_new_session": True,  # Ctrl-C goes to this program, which then rolls back
        "_pass_fds": set(locks),
    }


def _how(code: int, expired: float | None) -> tuple[str, type[CablectlError]]:
    """Return how a failed command ended; a negative exit code is a signal."""
    if expired is not None:
        return f"took longer than {expired:g} s", TimeLimitError
    if code < 0:
        return f"was killed by signal {-code}", CablectlError
    return f"failed with exit code {code}", CablectlError


def _failure(
    argv: Argv,
    phase: str,
    output: bytes,
    how: str,
    kind: type[CablectlError],
    most: int = MAX_OUTPUT,
) -> CablectlError:
    lines = output.decode(errors="replace").splitlines()[-most:]
    return kind(f"{phase}: the command {how}", details=[f"$ {shlex.join(argv)}", *lines])


class Shell:
    """A shell that runs one command after the other, each as `run` does. The caller closes it.

    `sh` forks this whole program and starts four threads for each command, which takes longer than
    the command itself (docs/libreswan.md).
    """

    def __init__(self, locks: Collection[int]) -> None:
        self._options = _options(locks)
        self._process: sh.RunningCommand | None = None

    def run(self, argv: Argv, limit: float, phase: str, shown: Argv = ()) -> str:
        """Run one command for at most `limit` seconds; an error names `shown` instead."""
        watch = CommandTimer(argv)
        if not shutil.which(argv[0]):
            watch.ended("not installed")
            raise _failure(shown or argv, phase, b"", "is not installed", HostNotReadyError)
        try:
            output, code = self._ask(argv, time.monotonic() + limit)
        except BaseException:
            self.close()
            watch.ended("interrupted")
            raise
        if code is None:
            watch.ended("time limit")
        else:
            watch.exited(code)
        if code == 0:
            return output.decode(errors="replace")
        if code is None:
            self.close()  # and the command in it
        how, kind = _how(code or 0, limit if code is None else None)
        raise _failure(shown or argv, phase, output, how, kind)

    def _ask(self, argv: Argv, deadline: float) -> tuple[bytes, int | None]:
        """Return a command's output and exit code; no exit code if it didn't end in time."""
        if self._process is None:
            self._start()
        line = f"{shlex.join(argv)} </dev/null; printf '\\n%d end of command\\n' $?\n"
        os.write(self._in, line.encode())
        output = b""
        while not (end := _END.search(output)):
            left = max(0.0, deadline - time.monotonic())
            chunk = b""
            if readable(self._out, left):
                chunk = os.read(self._out, 1 << 16)  # no byte if the shell itself ended
            if not chunk or left == 0:  # the limit holds for a command that prints without end too
                return output, None
            output += chunk
        code = int(end[1])
        if code > 128:  # a shell's way to report a signal
            code = 128 - code
        return output[: end.start()], code

    def _start(self) -> None:
        shell_in, self._in = os.pipe()
        self._out, shell_out = os.pipe()
        with os.fdopen(shell_in, "rb") as commands, os.fdopen(shell_out, "wb") as output:
            self._process = sh.Command(SHELL)(_in=commands, _out=output, **self._options)

    def close(self) -> None:
        """Kill the shell and the command in it."""
        if self._process is not None:
            self._process.kill_group()
            with suppress(sh.ErrorReturnCode):
                self._process.wait()
            os.close(self._in)
            os.close(self._out)
            self._process = None


def batch(
    argvs: Sequence[Argv], limit: float, phase: str, locks: Collection[int] = ()
) -> dict[int, CablectlError]:
    """Run commands of `ip`, or of `bridge`, in one process; return the errors by place.

    A command that fails doesn't stop the others. A command with a syntax error ends the process
    without its line number: then all commands after the last one with an error count as failed.
    """
    lines = "".join(" ".join(argv[1:]) + "\n" for argv in argvs)
    program = (argvs[0][0], "-force", "-batch", "-")
    try:
        run(program, limit, phase, locks, text=lines, most=MAX_OUTPUT * len(argvs))
    except (TimeLimitError, HostNotReadyError) as error:
        return dict.fromkeys(range(len(argvs)), error)
    except CablectlError as error:
        return _batch_errors(argvs, error, phase)
    return {}


def _batch_errors(
    argvs: Sequence[Argv], error: CablectlError, phase: str
) -> dict[int, CablectlError]:
    """Return the errors of a failed batch by place, from the lines that it printed."""
    failed: dict[int, CablectlError] = {}
    output: list[str] = []
    for line in error.details[1:]:
        if found := _BATCH_FAILED.fullmatch(line):
            place = int(found[1]) - 1
            details = [f"$ {shlex.join(argvs[place])}", *output]
            failed[place] = CablectlError(f"{phase}: the command failed", details=details)
            output = []
        else:
            output.append(line)
    if output or not failed:
        unknown = range(max(failed, default=-1) + 1, len(argvs))
        failed |= dict.fromkeys(unknown, CablectlError(error.message, details=error.details))
    return failed
