"""The passphrase of an authority's key: from a file, or from a person at a terminal."""

import getpass
import os
import stat
import sys
import warnings
from pathlib import Path

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.host import files, trust

# Someone who has the encrypted key can try passphrases: PKCS#8 slows each try down only a little.
LEAST = 16  # characters
MAX = 1024  # bytes
OPTION = "--passphrase-file"


def read(name: str | None, *, new: bool = False) -> bytes:
    """Return the passphrase of a file, or ask for it without an echo; a new one is asked twice.

    UsageError if there is none, or if a new one is too short; HostNotReadyError if others could
    read or exchange the file.
    """
    found = _asked(new=new) if name is None else _of_file(name)
    if not found:
        raise UsageError("the passphrase is empty", hint=f"write it into the file of {OPTION}")
    if new and len(found) < LEAST:
        raise UsageError(
            f"the passphrase has fewer than {LEAST} characters",
            hint="make one with: (umask 077; openssl rand -base64 24 >FILE)",
        )
    return found


def _of_file(name: str) -> bytes:
    path = Path(name).absolute()
    for message, hint in trust.of_key(path):
        raise HostNotReadyError(f"{OPTION}: {message}", hint=hint)
    try:
        with files.opened(str(path), os.O_NOFOLLOW) as file:
            mode, raw = os.fstat(file.fileno()).st_mode, file.read(MAX + 1)
    except OSError as error:
        raise UsageError(f"{OPTION} {name}: {error.strerror}") from None
    if mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise HostNotReadyError(f"{OPTION}: {path} can be read by others", hint=f"chmod 600 {path}")
    if len(raw) > MAX:
        raise UsageError(f"{OPTION} {name}: longer than {MAX} bytes")
    return raw.rstrip(b"\r\n")


def _asked(*, new: bool) -> bytes:
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"missing: {OPTION} PATH; there is no terminal to ask on")
    with warnings.catch_warnings():
        warnings.simplefilter("error", getpass.GetPassWarning)  # it would show the passphrase
        try:
            found = getpass.getpass("Passphrase of the authority's key: ")
            if new and getpass.getpass("The same passphrase again: ") != found:
                raise UsageError("the two passphrases differ", hint="run the same command again")
        except (EOFError, getpass.GetPassWarning):
            raise UsageError(f"missing: {OPTION} PATH; the terminal gives no passphrase") from None
    return found.encode()
