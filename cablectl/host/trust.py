"""Whether somebody else than root or the user can change what is at a path.

A path is as safe as its weakest part: who can write a directory on the way can exchange what is
below it. The command that writes the secrets file judges paths of keys alike (`secrets_file`).
"""

import os
import shlex
import stat
from collections.abc import Iterator
from pathlib import Path

from cablectl.model.wishes import DEFAULT_PSK

Problem = tuple[str, str]  # what is wrong, and the hint

OWN = str(Path(DEFAULT_PSK).parent)  # the directory that is made for cablectl alone
# These directories, and those above them, are root's on every host; nobody else needs to write.
ROOTS = ("/", "/etc", OWN, "/etc/ipsec.d")
PRIVATE = f"use a directory that only root can write, such as {OWN}"
SHARED = stat.S_IWGRP | stat.S_IWOTH
MAX_LINKS = 40  # as the kernel


def of_key(path: Path) -> Iterator[Problem]:
    """Yield what lets another user choose the key at a path, the directories first."""
    yield from of_directory(path.parent)
    yield from _unlinked(path, sticky=False)


def of_directory(directory: Path) -> Iterator[Problem]:
    """Yield what lets another user choose a new file in a directory.

    Another user can't exchange root's files in a sticky directory, such as /tmp, but can make the
    missing ones: so only a directory further up may be sticky.
    """
    for part in (*reversed(directory.parents), directory):
        yield from _unlinked(part, sticky=part != directory)


def _unlinked(part: Path, *, sticky: bool) -> Iterator[Problem]:
    """Yield the problem of a part of a path that may not be a symlink."""
    try:
        status = part.lstat()
    except OSError:  # the caller reports the error
        return
    if stat.S_ISLNK(status.st_mode):
        yield f"{part} is a symlink", _without_link(part)
    else:
        yield from _judged(part, status, frozenset({0, os.getuid()}), sticky=sticky)


def of_input(path: Path) -> Iterator[Problem]:
    """Yield what lets another user change the file that a command line names.

    Symlinks are followed; each of them has to be as safe as a file. With sudo, the file may also
    belong to the user who called it, since this user could name any other file as well.
    """
    owners = {0, os.getuid()}
    caller = os.environ.get("SUDO_UID", "")
    if os.getuid() == 0 and caller.isascii() and caller.isdecimal():
        owners.add(int(caller))
    for part in _way(path):
        try:
            status = part.lstat()
        except OSError:  # the caller reports the error
            return
        yield from _judged(part, status, frozenset(owners), sticky=True)


def _way(path: Path) -> Iterator[Path]:
    """Yield each directory, symlink and file that the kernel visits on its way to a path."""
    part, links = Path("/"), 0
    rest = list(path.absolute().parts[1:])
    yield part
    while rest:
        step = rest.pop(0)
        if step == "..":
            part = part.parent
            continue
        part /= step
        yield part
        if part.is_symlink() and links < MAX_LINKS:
            links += 1
            target = part.readlink()
            part, steps = (
                (Path("/"), target.parts[1:])
                if target.is_absolute()
                else (
                    part.parent,
                    target.parts,
                )
            )
            rest = [*steps, *rest]


def _judged(
    part: Path, status: os.stat_result, owners: frozenset[int], *, sticky: bool
) -> Iterator[Problem]:
    """Yield the problem of one part of a path; `sticky`: a sticky directory may be shared."""
    mode, directory = status.st_mode, stat.S_ISDIR(status.st_mode)
    name = shlex.quote(str(part))
    if status.st_uid not in owners:
        yield (
            f"{part} belongs to user {status.st_uid}, not to root",
            _hint(part, directory, f"chown root {name}", "make sure that you want what it says"),
        )
        return
    if stat.S_ISLNK(mode) or (directory and sticky and mode & stat.S_ISVTX):
        return
    everybody = mode & stat.S_IWOTH
    if everybody or (mode & stat.S_IWGRP and status.st_gid != 0):
        writers = "everybody" if everybody else f"its group, {status.st_gid}"
        yield f"{part} can be written by {writers}", _hint(part, directory, f"chmod go-w {name}")


def _hint(part: Path, directory: bool, command: str, first: str = "") -> str:
    """Return the command, unless other programs may need a directory as it is."""
    if directory:
        return command if str(part) in ROOTS else PRIVATE
    return f"{first}, then: {command}" if first else command


def _without_link(link: Path) -> str:
    if link.is_dir() and str(link) not in ROOTS:
        return f"write the path without it: {os.path.realpath(link)}"
    return "replace the symlink by the file or directory itself"
