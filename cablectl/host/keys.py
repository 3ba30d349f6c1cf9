"""The pre-shared key where it lies, in a file or a variable: found, judged, made.

Who can write to a key's file, or put another in its place, chooses the key. So its file, the
secrets file and the directories of both have to be root's or the user's own, no symlinks, and not
writable by all. The command that writes the secrets file looks at the same (`secret.write`).
"""

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts.host_facts import Credential
from cablectl.host import files
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable
from cablectl.model.wishes import PskEnv, PskFile

# As unpredictable as the strongest key that is negotiated, RFC 7296, section 2.15: that of AES-256.
STRONG = 32  # bytes

Problem = tuple[str, str]  # what is wrong, and what to do


class Key(Struct, frozen=True):
    """The key, why it can't be used, and what is for a person to judge.

    The key itself is for nobody to see: it isn't shown.
    """

    raw: bytes
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """Tell nothing of the key."""
        return "Key()"


class Found(Struct, frozen=True):
    """What the secrets file holds, why the key can't be used, and what is for a person to judge."""

    held: Credential
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def find(cable: Cable) -> Found:
    """Look at the cable's key and at its secrets file, and tell nothing of the key itself."""
    return find_in(cable, read(cable.ipsec.psk))


def read(psk: PskFile | PskEnv) -> Key:
    """Return the key that is in a file or a variable."""
    if isinstance(psk, PskFile):
        make = f"cablectl secret new {shlex.quote(psk.path)}, and copy it to the peer"
        raw, problems, warnings = _read(Path(psk.path), make)
    else:
        make = f"export {psk.variable} before you connect"
        raw, problems, warnings = os.environb.get(psk.variable.encode(), b""), [], []
    key = secrets_file.key(raw)
    if not problems and not 0 < len(key) <= secrets_file.MAX_KEY:
        what = f"longer than {secrets_file.MAX_KEY} bytes" if key else "empty"
        problems = [(f"ipsec.psk: the pre-shared key is {what}", make)]
    if 0 < len(key) < STRONG:
        warnings.append(
            f"ipsec.psk: the pre-shared key is weak, under {STRONG} bytes:"
            " `cablectl secret new FILE` makes a strong one"
        )
    return Key(key, tuple(problems), tuple(warnings))


def find_in(cable: Cable, key: Key) -> Found:
    """Look at the cable's secrets file, which should hold the key."""
    target = Path(secrets_file.path(cable))
    held = Credential.OTHER if os.path.lexists(target) else Credential.ABSENT
    expected = secrets_file.content(cable, key.raw)
    if _content(target, len(expected) + 1) == expected:
        held = Credential.SAME
    distrust = (*_distrust(target.parent), *_distrust(target))
    return Found(held, (*key.problems, *distrust), key.warnings)


def _read(path: Path, make: str) -> tuple[bytes, list[Problem], list[str]]:
    """Return what the key's file holds, or why it can't be read or trusted, and warnings."""
    problems = [*_distrust(path.parent), *_distrust(path)]
    if problems:
        return b"", problems, []
    try:
        with files.opened(str(path), os.O_NOFOLLOW) as file:
            raw, mode = file.read(files.MAX_FILE), os.fstat(file.fileno()).st_mode
    except OSError as error:
        return b"", [(f"ipsec.psk.file: {path}: {error.strerror}", make)], []
    except UsageError as error:
        return b"", [(f"ipsec.psk.file: {error.message}", make)], []
    open_to = f"{path} can be read by others than root: chmod 600 {shlex.quote(str(path))}"
    return raw, [], [open_to] if mode & (stat.S_IRWXG | stat.S_IRWXO) else []


def _content(path: Path, limit: int) -> bytes:
    """Return what a file holds, up to a limit in bytes; nothing if it can't be read."""
    try:
        with files.opened(str(path), os.O_NOFOLLOW) as file:
            return file.read(limit)
    except (OSError, UsageError):
        return b""


def _distrust(path: Path) -> Iterator[Problem]:
    """Say why somebody else could have a say in what is read or written there."""
    try:
        there = path.lstat()
    except OSError:  # who opens it says so
        return
    quoted = shlex.quote(str(path))
    if stat.S_ISLNK(there.st_mode):
        yield f"{path} is a symlink", "put what it points to in its place"
    elif there.st_mode & stat.S_IWOTH:
        yield f"{path} can be written by everybody", f"chmod o-w {quoted}"
    elif there.st_uid not in (0, os.getuid()):
        yield f"{path} belongs to user {there.st_uid}, not to root", f"chown root {quoted}"


def new(name: str) -> Path:
    """Make a key from the system's random source; return its file, which is to be new.

    UsageError if there is one; HostNotReadyError if it can't be written, or not in a safe place.
    """
    import secrets  # 10 ms that only this needs
    from base64 import b64encode

    if name == "-":
        raise UsageError("a key goes to a file, not to a terminal", hint="give its path")
    path = Path(name).absolute()
    if not _write(path, b64encode(secrets.token_bytes(STRONG)).decode()):
        raise UsageError(f"{path}: there is one already", hint="remove it first")
    return path


def keep(name: str, key: str) -> bool:
    """Write a key to a file of its own; tell whether it was new.

    HostNotReadyError if the file holds another key, or can't be written, or not in a safe place.
    """
    path = Path(name)
    if _write(path, key):
        return True
    if secrets_file.key(_content(path, files.MAX_FILE)) != key.encode():
        raise HostNotReadyError(
            f"{name} is there and holds something else", hint="name another place with --psk-file"
        )
    return False


def put_into_environment(variable: str, key: str) -> None:
    """Keep a key where the commands of a plan read it, and nobody but root can."""
    os.environb[variable.encode()] = key.encode()


def _write(path: Path, key: str) -> bool:
    """Write a new file, at once and readable by its owner alone; tell whether there was none."""
    from tempfile import NamedTemporaryFile  # 10 ms that only this needs

    for problem, remedy in _distrust(path.parent):
        raise HostNotReadyError(problem, hint=remedy)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(f"{key}\n".encode())
            file.flush()
            try:
                os.link(file.name, path)  # unlike a rename, never over one that is there
            except FileExistsError:
                return False
    except OSError as error:
        raise HostNotReadyError(
            f"{path}: {error.strerror}", hint="the same with sudo, or in another place"
        ) from None
    return True
