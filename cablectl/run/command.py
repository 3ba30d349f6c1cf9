"""Runs the commands that change the host, through `sh`: one, a batch of them, or one by one."""

import io
import os
import re
import select
import shlex
import shutil
import threading
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from typing import Any

import sh

from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.host.command_log import CommandTimer
from cablectl.model.argv import Argv
from cablectl.run.signals import deferred, leave

SHELL = "/bin/sh"
MAX_OUTPUT = 20  # lines of a failed command that an error repeats, the last ones
_BATCH_FAILED = re.compile(r"Command failed -:(\d+)")
_END = re.compile(rb"\n(\d+) that was it\n\Z")


def run(
    argv: Argv,
    limit: float,
    what: str,
    lock: int | None = None,
    *,
    text: str = "",
    most: int = MAX_OUTPUT,
) -> str:
    """Run one command for at most `limit` seconds, with `text` to read; return what it printed.

    It keeps `lock` open: should this program be killed, the next one waits until the command ends.
    HostNotReadyError if it is not installed, TimeLimitError, or CablectlError with `most` lines of
    its output.
    """
    output = io.BytesIO()
    expired = threading.Event()
    watch = CommandTimer(argv, text)

    process: sh.RunningCommand | None = None

    def kill() -> None:
        if process is not None:  # whose truth would be a wait for its output
            process.kill_group()

    def expire() -> None:
        expired.set()
        kill()

    timer = threading.Timer(limit, expire)
    timer.daemon = True
    try:
        # A signal that comes while the command starts is handled when there is a group to kill.
        with _in_one_piece():
            # Not sh's own _timeout: it looks every 100 ms, which makes each command last that long.
            process = sh.Command(argv[0])(*argv[1:], _in=text, _out=output, **_options(lock))
            timer.start()
        process.wait()
    except (KeyboardInterrupt, SystemExit):
        kill()
        watch.ended("interrupted")
        raise
    except sh.CommandNotFound:
        watch.ended("not installed")
        raise _failure(argv, what, b"", "is not installed", HostNotReadyError) from None
    except sh.ErrorReturnCode as error:
        if expired.is_set():
            watch.ended("time limit")
        else:
            watch.exited(error.exit_code)
        how, kind = _how(error.exit_code, limit if expired.is_set() else None)
        raise _failure(argv, what, output.getvalue(), how, kind, most) from None
    finally:
        timer.cancel()
    watch.exited(0)
    return output.getvalue().decode(errors="replace")


def _in_one_piece() -> AbstractContextManager[None]:
    """Defer signals, in the thread that alone handles them."""
    main = threading.current_thread() is threading.main_thread()
    return deferred(leave) if main else nullcontext()


def _options(lock: int | None) -> dict[str, Any]:
    return {
        "_err_to_out": True,
        "_tty_out": False,
        "_bg": True,
        "_bg_exc": False,
        "_new_session": True,  # Ctrl-C is for this program, which then undoes
        "_pass_fds": set() if lock is None else {lock},
    }


def _how(code: int, expired: float | None) -> tuple[str, type[CablectlError]]:
    """Say how a command ended that failed: by its exit code, negative for a signal."""
    if expired is not None:
        return f"took longer than {expired:g} s", TimeLimitError
    if code < 0:
        return f"was killed by signal {-code}", CablectlError
    return f"failed with exit code {code}", CablectlError


def _failure(
    argv: Argv,
    what: str,
    output: bytes,
    how: str,
    kind: type[CablectlError],
    most: int = MAX_OUTPUT,
) -> CablectlError:
    lines = output.decode(errors="replace").splitlines()[-most:]
    return kind(f"{what}: the command {how}", details=[f"$ {shlex.join(argv)}", *lines])


class Shell:
    """A shell that runs one command after the other, each as `run` would; to be closed.

    For each command that it starts `sh` forks this whole program and begins four threads, which
    lasts longer than the command: docs/libreswan.md.
    """

    def __init__(self, lock: int) -> None:
        self._options = _options(lock)
        self._process: sh.RunningCommand | None = None

    def run(self, argv: Argv, limit: float, what: str, shown: Argv = ()) -> str:
        """Run one command for at most `limit` seconds; an error names it, or what is `shown`."""
        watch = CommandTimer(argv)
        if not shutil.which(argv[0]):
            watch.ended("not installed")
            raise _failure(shown or argv, what, b"", "is not installed", HostNotReadyError)
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
            self.close()  # with what it runs
        how, kind = _how(code or 0, limit if code is None else None)
        raise _failure(shown or argv, what, output, how, kind)

    def _ask(self, argv: Argv, deadline: float) -> tuple[bytes, int | None]:
        """Return what a command printed, and its exit code; None if it didn't end in time."""
        if self._process is None:
            self._start()
        line = f"{shlex.join(argv)} </dev/null; printf '\\n%d that was it\\n' $?\n"
        os.write(self._in, line.encode())
        output = b""
        while not (end := _END.search(output)):
            left = max(0.0, deadline - time.monotonic())
            chunk = b""
            if select.select([self._out], [], [], left)[0]:
                chunk = os.read(self._out, 1 << 16)  # nothing if the shell itself is gone
            if not chunk or left == 0:  # one that prints without end has one all the same
                return output, None
            output += chunk
        code = int(end[1])
        return output[: end.start()], code if code <= 128 else 128 - code  # a signal's number

    def _start(self) -> None:
        theirs_in, self._in = os.pipe()
        self._out, theirs_out = os.pipe()
        with os.fdopen(theirs_in, "rb") as commands, os.fdopen(theirs_out, "wb") as output:
            self._process = sh.Command(SHELL)(_in=commands, _out=output, **self._options)

    def close(self) -> None:
        """End it, and what it runs."""
        if self._process is not None:
            self._process.kill_group()
            with suppress(sh.ErrorReturnCode):
                self._process.wait()
            os.close(self._in)
            os.close(self._out)
            self._process = None


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
        if found := _BATCH_FAILED.fullmatch(line):
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
