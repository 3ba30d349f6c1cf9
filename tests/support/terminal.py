"""A real terminal with a shell in it: what is typed, and what its screen shows."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

LIMIT = 90.0  # seconds for what a screen is to show


class Terminal:
    """A tmux of its own, 100 columns by 30 lines, with a shell in it."""

    def __init__(self, folder: Path, shell: str, environment: dict[str, str]) -> None:
        for each in ("tmux", shell):
            assert shutil.which(each), f"{each} is missing: `make system` installs it"
        self._environment = {**os.environ, **environment, "TMUX_TMPDIR": str(folder)}
        self._tmux("new-session", "-d", "-x", "100", "-y", "30", "-c", str(folder), shell)

    def type(self, *keys: str) -> None:
        """Type texts, and keys by tmux's names for them, such as Tab."""
        for key in keys:
            self._tmux("send-keys", key)

    def wait(self, shown: Callable[[str], object], what: str) -> str:
        """Return the screen as soon as it is as wanted; fail if it never is."""
        end = time.monotonic() + LIMIT
        while not shown(screen := self._tmux("capture-pane", "-p").rstrip()):
            assert time.monotonic() < end, f"waited for {what}; the terminal shows:\n{screen}"
            time.sleep(0.02)
        return screen

    def close(self) -> None:
        """End it, and the shell in it."""
        self._tmux("kill-server")

    def _tmux(self, *args: str) -> str:
        return subprocess.run(
            ["tmux", "-L", "cablectl", "-f", "/dev/null", *args],
            capture_output=True,
            text=True,
            check=True,
            env=self._environment,
        ).stdout


def shown_on(terminal: int) -> str:
    """Return all that was written to a terminal whose other end is closed."""
    shown = b""
    while True:
        try:
            shown += os.read(terminal, 1 << 16)
        except OSError:  # how Linux tells the end
            return shown.decode()
