"""The pre-shared key in a file or a variable, and the PPK: read, checked and made.

Anybody who can write the key's file, or exchange it, chooses the key. So the key's file, the
secrets file and all directories above them must belong to root or to the user, must not be
symlinks, and must not be writable by others (`trust`). The command that writes the secrets file
checks all this again (`secrets_file.write`).
"""

import os
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import assert_never

from msgspec import Struct

from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts.host_facts import Credential
from cablectl.host import files, trust
from cablectl.host.trust import Problem
from cablectl.libreswan import secrets_file
from cablectl.model.cable import Cable
from cablectl.model.psk import (
    NEXT,
    SEPARATOR,
    CablePsk,
    Psk,
    PskDirectory,
    PskEnv,
    PskFile,
    PskPair,
)

# As strong as the strongest key that is negotiated (RFC 7296, section 2.15): a key of AES-256.
STRONG = 32  # bytes
NEW_PAIRS = "cablectl secret new --pairs FILE --out DIR"


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


class Kind(Struct, frozen=True):
    """What a key is for: its field and name in messages, and how long it may be."""

    field: str
    name: str
    most: int  # bytes


PSK = Kind("ipsec.psk", "pre-shared key", secrets_file.MAX_KEY)
PPK = Kind("ipsec.ppk", "PPK", secrets_file.MAX_PPK)


class Found(Struct, frozen=True):
    """The state of the secrets file, the problems of the keys, and warnings."""

    held: Credential
    problems: tuple[Problem, ...]
    warnings: tuple[str, ...]


def find(cable: Cable) -> Found:
    """Check the cable's keys and its secrets file; the result doesn't hold the keys."""
    return find_in(cable, read(cable.psk), read(cable.ppk, PPK) if cable.ppk else None)


def read(psk: CablePsk, kind: Kind = PSK) -> Key:
    """Return the key of a file or a variable."""
    which, strong = f"{kind.field}: the {kind.name}", "cablectl secret new FILE"
    match psk:
        case PskFile():
            hint = _make(psk.path, exists=True)
            raw, problems, warnings = _read(psk, kind)
        case PskPair():
            which, strong = f"{kind.field}.directory: the key {psk.path}", NEW_PAIRS
            hint = _make_pair(psk, exists=True)
            raw, problems, warnings = _read(psk, kind)
        case PskEnv():
            hint = f"export {psk.variable} before you connect"
            raw, problems, warnings = os.environb.get(psk.variable.encode(), b""), [], []
        case _:
            assert_never(psk)
    key = secrets_file.key(raw)
    if not problems and not 0 < len(key) <= kind.most:
        state = f"longer than {kind.most} bytes" if key else "empty"
        problems = [(f"{which} is {state}", hint)]
    if 0 < len(key) < STRONG:
        warnings.append(f"{which} is weak, under {STRONG} bytes: `{strong}` makes a strong one")
    return Key(key, tuple(problems), tuple(warnings))


def all_of(psk: Psk) -> Iterator[bytes]:
    """Yield every key to which a file refers, as far as it can be read; for masking only."""
    match psk:
        case PskFile() | PskEnv():
            yield read(psk).raw
        case PskDirectory():
            with suppress(OSError):
                for file in Path(psk.path).iterdir():
                    yield secrets_file.key(_content(file, files.MAX_FILE))
        case _:
            assert_never(psk)


def find_in(cable: Cable, key: Key, ppk: Key | None = None) -> Found:
    """Check the cable's secrets file against the keys."""
    target = Path(secrets_file.path(cable))
    held = Credential.OTHER if os.path.lexists(target) else Credential.ABSENT
    found = _content(target, files.MAX_FILE)
    raws = (key.raw, ppk.raw if ppk else None)
    if found == secrets_file.content(cable, *raws):
        held = Credential.SAME
    elif b"" not in raws and secrets_file.has_keys(found, *raws):
        held = Credential.EARLIER
    elif key.raw and secrets_file.without_ppk(found) == secrets_file.content(cable, key.raw):
        held = Credential.OTHER_PPK
    problems, warnings = key.problems, key.warnings
    if ppk:
        problems, warnings = problems + ppk.problems, warnings + ppk.warnings
    return Found(held, (*problems, *trust.of_key(target)), warnings)


def _make(path: str, *, exists: bool) -> str:
    """Return the hint to make a key in a file."""
    name = shlex.quote(path)
    remove = f"rm {name}; " if exists else ""
    return f"{remove}cablectl secret new {name}, and copy it to the peer"


def _make_pair(psk: PskPair, *, exists: bool) -> str:
    """Return the hint to make the key of a pair: once, since both ends need the same."""
    remove = f"rm {shlex.quote(psk.path)}; " if exists else ""
    ends = " and ".join(psk.name.removesuffix(NEXT).split(SEPARATOR))
    new = f"{NEW_PAIRS} --next" if psk.name.endswith(NEXT) else NEW_PAIRS
    return (
        f"{remove}where you keep the keys of all gateways: {new};"
        f" then copy DIR/{psk.name} to {psk.directory} on {ends}"
    )


def _read(psk: PskFile | PskPair, kind: Kind) -> tuple[bytes, list[Problem], list[str]]:
    """Return the content of the key's file, or why it can't be read or trusted, and warnings."""
    path, field = Path(psk.path), f"{kind.field}.file"
    make = _make(psk.path, exists=False)
    if isinstance(psk, PskPair):
        field, make = f"{kind.field}.directory", _make_pair(psk, exists=False)
    problems = [*trust.of_key(path)]
    if problems:
        return b"", problems, []
    try:
        with files.opened(str(path), os.O_NOFOLLOW) as file:
            raw, mode = file.read(files.MAX_FILE), os.fstat(file.fileno()).st_mode
    except FileNotFoundError as error:
        return b"", [(f"{field}: {path}: {error.strerror}", make)], []
    except OSError as error:
        hint = f"check the path in {field} and its permissions: ls -ld {shlex.quote(str(path))}"
        return b"", [(f"{field}: {path}: {error.strerror}", hint)], []
    except UsageError as error:
        return b"", [(f"{field}: {error.message}", "name a regular file there")], []
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
    if name == "-":
        raise UsageError("a key goes to a file, not to a terminal", hint="give the path of a file")
    if not name:
        raise UsageError("the name of the key's file is empty", hint="give the path of a file")
    path = Path(name).absolute()
    if not _write(path, random()):
        raise UsageError(f"{path} exists already", hint=files.IN_THE_WAY)
    return path


def random() -> str:
    """Return a key from the system's random source, in base64."""
    import secrets  # costs 10 ms
    from base64 import b64encode

    return b64encode(secrets.token_bytes(STRONG)).decode()


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
    """Write a new file and its directory, as `place`."""
    make_directory(path.parent, path)
    return place(path, key)


def make_directory(directory: Path, wanted: Path | None = None) -> None:
    """Make a directory of mode 0700, unless it exists; HostNotReadyError names what is wanted."""
    refuse_unsafe(directory)
    with reported(wanted or directory):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    refuse_unsafe(directory)  # those that are new as well


def place(path: Path, key: str) -> bool:
    """Write a new file at once, readable by its owner alone; return False if it exists already.

    The caller has checked the directory with `make_directory`.
    """
    from tempfile import NamedTemporaryFile  # costs 10 ms

    with reported(path):
        with NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.") as file:
            file.write(f"{key}\n".encode())
            file.flush()
            try:
                os.link(file.name, path)  # unlike a rename, this never replaces a file
            except FileExistsError:
                return False
        return True


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Raise HostNotReadyError for an error of the system at a path."""
    try:
        yield
    except OSError as error:
        raise HostNotReadyError(
            f"{path}: {error.strerror}",
            hint="run the same command with sudo, or choose another path",
        ) from None


def refuse_unsafe(directory: Path) -> None:
    """Raise HostNotReadyError if another user could exchange a new file in a directory."""
    for message, hint in trust.of_directory(directory):
        raise HostNotReadyError(message, hint=hint)
