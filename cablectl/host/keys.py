"""The pre-shared key in a file or a variable: read, checked and made.

Anybody who can write the key's file, or exchange it, chooses the key. So the key's file, the
secrets file and all directories above them must belong to root or to the user, must not be
symlinks, and must not be writable by others (`trust`). The command that writes the secrets file
checks all this again (`secrets_file.write`).
"""

import os
import shlex
import stat
from pathlib import Path

from msgspec import Struct

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts.host_facts import Credential
from cablectl.host import files, trust
from cablectl.host.trust import Problem
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable
from cablectl.model.wishes import PskEnv, PskFile

# As strong as the strongest key that is negotiated (RFC 7296, section 2.15): a key of AES-256.
STRONG = 32  # bytes


class Key(Struct, frozen=True):
    """The key, the problems that keep it from being used, and warnings.

    repr() doesn't show the key.
    """

    raw: bytes
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]

    def __repr__(self) -> str:
        """Return a text without the key."""
        return "Key()"


class Found(Struct, frozen=True):
    """The state of the secrets file, the problems of the key, and warnings."""

    held: Credential
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def find(cable: Cable) -> Found:
    """Check the cable's key and its secrets file; the result doesn't hold the key."""
    return find_in(cable, read(cable.ipsec.psk))


def read(psk: PskFile | PskEnv) -> Key:
    """Return the key of a file or a variable."""
    if isinstance(psk, PskFile):
        hint = _make(psk.path, exists=True)
        raw, problems, warnings = _read(Path(psk.path))
    else:
        hint = f"export {psk.variable} before you connect"
        raw, problems, warnings = os.environb.get(psk.variable.encode(), b""), [], []
    key = secrets_file.key(raw)
    if not problems and not 0 < len(key) <= secrets_file.MAX_KEY:
        state = f"longer than {secrets_file.MAX_KEY} bytes" if key else "empty"
        problems = [(f"ipsec.psk: the pre-shared key is {state}", hint)]
    if 0 < len(key) < STRONG:
        warnings.append(
            f"ipsec.psk: the pre-shared key is weak, under {STRONG} bytes:"
            " `cablectl secret new FILE` makes a strong one"
        )
    return Key(key, tuple(problems), tuple(warnings))


def find_in(cable: Cable, key: Key) -> Found:
    """Check the cable's secrets file against the key."""
    target = Path(secrets_file.path(cable))
    held = Credential.OTHER if os.path.lexists(target) else Credential.ABSENT
    found = _content(target, files.MAX_FILE)
    if found == secrets_file.content(cable, key.raw):
        held = Credential.SAME
    elif key.raw and secrets_file.has_key(found, key.raw):
        held = Credential.EARLIER
    return Found(held, (*key.problems, *trust.of_key(target)), key.warnings)


def _make(path: str, *, exists: bool) -> str:
    """Return the hint to make a key in a file."""
    name = shlex.quote(path)
    remove = f"rm {name}; " if exists else ""
    return f"{remove}cablectl secret new {name}, and copy it to the peer"


def _read(path: Path) -> tuple[bytes, list[Problem], list[str]]:
    """Return the content of the key's file, or why it can't be read or trusted, and warnings."""
    problems = [*trust.of_key(path)]
    if problems:
        return b"", problems, []
    try:
        with files.opened(str(path), os.O_NOFOLLOW) as file:
            raw, mode = file.read(files.MAX_FILE), os.fstat(file.fileno()).st_mode
    except FileNotFoundError as error:
        hint = _make(str(path), exists=False)
        return b"", [(f"ipsec.psk.file: {path}: {error.strerror}", hint)], []
    except OSError as error:
        hint = (
            f"check the path in ipsec.psk.file and its permissions: ls -ld {shlex.quote(str(path))}"
        )
        return b"", [(f"ipsec.psk.file: {path}: {error.strerror}", hint)], []
    except UsageError as error:
        return b"", [(f"ipsec.psk.file: {error.message}", "name a regular file there")], []
    open_to = f"{path} can be read by others than root: chmod 600 {shlex.quote(str(path))}"
    return raw, [], [open_to] if mode & (stat.S_IRWXG | stat.S_IRWXO) else []


def _content(path: Path, limit: int) -> bytes:
    """Return at most `limit` bytes of a file; nothing if it can't be read."""
    try:
        with files.opened(str(path), os.O_NOFOLLOW) as file:
            return file.read(limit)
    except (OSError, UsageError):
        return b""


def new(name: str) -> Path:
    """Make a key from the system's random source; return the path of its new file.

    UsageError if the file exists; HostNotReadyError if it can't be written, or isn't safe there.
    """
    import secrets  # costs 10 ms
    from base64 import b64encode

    if name == "-":
        raise UsageError("a key goes to a file, not to a terminal", hint="give the path of a file")
    if not name:
        raise UsageError("the name of the key's file is empty", hint="give the path of a file")
    path = Path(name).absolute()
    if not _write(path, b64encode(secrets.token_bytes(STRONG)).decode()):
        raise UsageError(f"{path} exists already", hint=files.IN_THE_WAY)
    return path


def keep(name: str, key: str) -> bool:
    """Write a key to a file of its own; return whether the file is new.

    HostNotReadyError if the file holds another key, can't be written, or isn't safe there.
    """
    path = Path(name)
    if _write(path, key):
        return True
    if secrets_file.key(_content(path, files.MAX_FILE)) != key.encode():
        raise HostNotReadyError(
            f"{name} exists and holds another key", hint="choose another file with --psk-file"
        )
    return False


def put_into_environment(variable: str, key: str) -> None:
    """Put a key into the environment, where only root and the commands of a plan can read it."""
    os.environb[variable.encode()] = key.encode()


def _write(path: Path, key: str) -> bool:
    """Write a new file at once, readable by its owner alone; return False if it exists already."""
    from tempfile import NamedTemporaryFile  # costs 10 ms

    _refuse_unsafe(path.parent)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _refuse_unsafe(path.parent)  # the directories that are new as well
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(f"{key}\n".encode())
            file.flush()
            try:
                os.link(file.name, path)  # unlike a rename, this never replaces a file
            except FileExistsError:
                return False
    except OSError as error:
        raise HostNotReadyError(
            f"{path}: {error.strerror}",
            hint="run the same command with sudo, or choose another path",
        ) from None
    return True


def _refuse_unsafe(directory: Path) -> None:
    """Raise HostNotReadyError if another user could exchange a new file in a directory."""
    for message, hint in trust.of_directory(directory):
        raise HostNotReadyError(message, hint=hint)
