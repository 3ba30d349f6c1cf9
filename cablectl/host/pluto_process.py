"""The process of pluto: only root's is believed, since any user can give a process its name."""

from pathlib import Path

from cablectl.linux.sockets import PLUTO

PID = Path("/run/pluto/pluto.pid")
PROC = Path("/proc")
ROOT = 0  # the user


def pid() -> str:
    """Return the PID of root's pluto; "" if the PID file names none."""
    named = text(PID).strip()
    process = PROC / named
    try:
        believed = named.isdecimal() and process.stat().st_uid == ROOT
    except OSError:
        return ""
    return named if believed and text(process / "comm").strip() == PLUTO else ""


def arguments() -> list[str]:
    """Return the arguments of root's pluto; none if it doesn't run."""
    found = pid()
    return text(PROC / found / "cmdline").split("\0") if found else []


def text(path: Path) -> str:
    """Return what a file has; "" if it can't be read."""
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
