"""pluto's log, whole or from a moment on: a file, or the systemd journal; read-only."""

import re
import time
from pathlib import Path

from cablectl.host import probe

PID = Path("/run/pluto/pluto.pid")
CONFIG = Path("/etc/ipsec.conf")
MAX_READ = 1 << 20  # last bytes of the file
MAX_LINES = "5000"  # last lines of the journal


class PlutoLog:
    """pluto's log from now on, or whole with the time of each line; empty if it can't be read."""

    def __init__(self, *, whole: bool = False) -> None:
        self._since = None if whole else time.time()
        self._file = _file()
        self._begin = 0 if whole else _size(self._file)

    def about(self, name: str, address: str = "") -> str:
        """Return the lines about a connection, and those about packets from an address."""
        marks = [f'"{name}"']
        marks += [f"packet from {address}:", f"packet from [{address}]:"] if address else []
        lines = self.read().splitlines()
        return "\n".join(line for line in lines if any(mark in line for mark in marks))

    def read(self) -> str:
        """Return the end of the log."""
        if self._file is None:
            return probe.if_any("journalctl", "-u", "ipsec", *self._entries())
        try:
            with self._file.open("rb") as file:
                file.seek(max(self._begin, _size(self._file) - MAX_READ))
                return file.read().decode(errors="replace")
        except OSError:
            return ""

    def _entries(self) -> tuple[str, ...]:
        if self._since is None:
            return ("-o", "short-iso", "-n", MAX_LINES)
        return ("-o", "cat", "--since", f"@{self._since:.0f}")


def _file() -> Path | None:
    """Return the log file that pluto's arguments or its configuration name."""
    pid = _text(PID).strip()
    argv = _text(Path("/proc", pid, "cmdline")).split("\0") if pid.isdecimal() else []
    if "--logfile" in argv[:-1]:
        return Path(argv[argv.index("--logfile") + 1])
    setting = re.search(r"(?m)^\s*logfile\s*=\s*\"?([^\s\"]+)", _text(CONFIG))
    return Path(setting[1]) if setting else None


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0
