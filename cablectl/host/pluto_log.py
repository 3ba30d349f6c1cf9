"""pluto's log, whole or from a moment on: a file, or the systemd journal; read-only.

The path of the log may be in the arguments of a process, which any user can choose. So only root's
pluto is believed, and only a regular file of root's is opened.
"""

import os
import re
import stat
import time
from pathlib import Path

from cablectl.host import pluto_process, probe

CONFIG = Path("/etc/ipsec.conf")
MAX_READ = 1 << 20  # last bytes of the file
MAX_LINES = "5000"  # last lines of the journal


class PlutoLog:
    """pluto's log from now on, or whole with the time of each line; empty if it can't be read."""

    def __init__(self, *, whole: bool = False) -> None:
        self._since = None if whole else time.time()
        self._file = _file()
        self._begin = 0 if whole else _size(self._file)

    def about(self, *names: str, address: str = "") -> str:
        """Return the lines about connections, and those about packets from an address."""
        marks = [f'"{name}"' for name in names]
        marks += [f"packet from {address}:", f"packet from [{address}]:"] if address else []
        lines = self.read().splitlines()
        return "\n".join(line for line in lines if any(mark in line for mark in marks))

    def read(self) -> str:
        """Return the end of the log."""
        if self._file is None:
            return probe.if_any("journalctl", "-u", "ipsec", *self._entries())
        try:
            if not _is_of_root(self._file.stat()):
                return ""
            with open(self._file, "rb", opener=_opener) as file:
                if not _is_of_root(os.fstat(file.fileno())):  # it was replaced meanwhile
                    return ""
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
    argv = pluto_process.arguments()
    setting = re.search(r"(?m)^\s*logfile\s*=\s*\"?([^\s\"]+)", pluto_process.text(CONFIG))
    if "--logfile" in argv[:-1]:
        return Path(argv[argv.index("--logfile") + 1])
    return Path(setting[1]) if setting else None


def _is_of_root(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and status.st_uid == pluto_process.ROOT


def _opener(path: str, flags: int) -> int:
    """Open a file without waiting for a writer, if the path has become a FIFO."""
    return os.open(path, flags | os.O_NONBLOCK | os.O_NOCTTY)


def _size(path: Path | None) -> int:
    try:
        return path.stat().st_size if path else 0
    except OSError:
        return 0
