"""Runs the commands that read this host, in English and with a time limit."""

import os
import subprocess
from typing import Any

from cablectl.errors import HostNotReadyError, TimeLimitError
from cablectl.host.command_log import CommandTimer
from cablectl.model.argv import Argv

LIMIT = 5  # seconds
_PACKAGES = {"ipsec": "libreswan", "ip": "iproute2", "bridge": "iproute2", "nft": "nftables"}


def run(*argv: str, given: str = "", shown: Argv = ()) -> subprocess.CompletedProcess[str]:
    """Run a command with `given` as its input; return the result, whatever its exit code.

    HostNotReadyError if it is not installed, TimeLimitError if it doesn't end: with the command
    `shown`, if it isn't itself what a person would run.
    """
    shown = shown or argv
    timer = CommandTimer(argv, given)
    try:
        result = subprocess.run(
            argv,
            input=given,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=LIMIT,
            env={**os.environ, "LC_ALL": "C"},
            check=False,
        )
    except FileNotFoundError:
        timer.ended("not installed")
        raise _not_installed(argv) from None
    except subprocess.TimeoutExpired:
        timer.ended("time limit")
        hint = "look whether pluto hangs: systemctl status ipsec" if shown[0] == "ipsec" else ""
        command = " ".join(shown)
        raise TimeLimitError(f"no answer in {LIMIT} s from: {command}", hint=hint) from None
    timer.exited(result.returncode)
    return result


def output(*argv: str, shown: Argv = ()) -> str:
    """Return a command's output; HostNotReadyError, with the output, if it fails."""
    result, shown = run(*argv, shown=shown), shown or argv
    if result.returncode != 0:
        raise HostNotReadyError(
            f"{shown[0]} failed with exit code {result.returncode}: {' '.join(shown)}",
            details=(result.stderr or result.stdout).splitlines(),
        )
    return result.stdout


def if_any(*argv: str) -> str:
    """Return a command's output; nothing if it isn't installed, fails or doesn't end."""
    try:
        result = run(*argv)
    except (HostNotReadyError, TimeLimitError):
        return ""
    return result.stdout if result.returncode == 0 else ""


def json(*argv: str) -> Any:  # noqa: ANN401 - what iproute2 prints
    """Return a command's JSON as values, [] for no output; HostNotReadyError if it fails."""
    return decoded(output(*argv))


def decoded(text: str) -> Any:  # noqa: ANN401
    """Return JSON as values; an empty text is []."""
    import json  # where there is output: a dry run on another host has none

    return json.loads(text) if text else []


def listed_by_nft(text: str) -> Any:  # noqa: ANN401
    """Return nft's JSON as values; None if it isn't JSON, or if there is no output.

    For a table with a flag, nft 1.0.6 prints whatever is in its memory.
    """
    try:
        return decoded(text) or None
    except ValueError:
        return None


def _not_installed(argv: Argv) -> HostNotReadyError:
    package = _PACKAGES.get(argv[0], argv[0])
    return HostNotReadyError(
        f"{argv[0]} is not installed", hint=f"on Debian: apt install {package}"
    )
