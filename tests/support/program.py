"""The program as a process."""

import os
import shlex
import subprocess

from tests.support.places import PROGRAM


def run(*args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [PROGRAM, *args],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env={**os.environ, "COLUMNS": "80", **environment},
    )


def complete(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Have the program complete the last word, as bash asks for it."""
    typed = [shlex.quote(word) if word else "" for word in words]
    asked = {"COMP_WORDS": "\n".join(typed), "COMP_CWORD": str(len(words) - 1)}
    return subprocess.run(
        [PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "_CABLECTL_COMPLETE": "complete_bash", **asked, **environment},
    )
