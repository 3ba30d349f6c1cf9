"""The Libreswans of the lab: Debian's, and those that the variable LAB_RELEASES adds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from .rooms import CHECKOUT, LabError

VARIABLE = "LAB_RELEASES"
TRIXIE = str((CHECKOUT / ".lab" / "trixie").resolve())  # tests/lab/root makes it
PREFIXES = ("usr/local", "usr")  # where `ipsec` may be, in the order of a usual PATH


@dataclass(frozen=True)
class Installation:
    """Where a gateway finds its Libreswan.

    `root` is the gateway's root directory. `layer` is "", or a directory whose files in prefix, etc
    and var are over those of the root. `prefix` is that of `ipsec`; "" if PATH finds `ipsec`.
    """

    root: str = "/"
    layer: str = ""
    prefix: str = ""


DEBIAN = {"4.10": Installation(), "5.2": Installation(TRIXIE)}
STRONGSWAN = Installation(TRIXIE)
OWN = (*DEBIAN, "strongSwan")


@cache
def added() -> Mapping[str, Installation]:
    """Return the installations of LAB_RELEASES by name; LabError if its value is wrong."""
    return parse(os.environ.get(VARIABLE, ""))


@cache
def installations() -> Mapping[str, Installation]:
    """Return all installations by name; LabError if LAB_RELEASES is wrong."""
    return {**DEBIAN, **added(), "strongSwan": STRONGSWAN}


def libreswans() -> list[str]:
    """Return the names of all Libreswans; LabError if LAB_RELEASES is wrong."""
    return [*DEBIAN, *added()]


def parse(text: str, base: Path = CHECKOUT) -> dict[str, Installation]:
    """Return the installations of NAME=DIR[,NAME=DIR...] by name; LabError in one line.

    A relative DIR is relative to `base`.
    """
    found: dict[str, Installation] = {}
    for item in text.split(",") if text else ():
        name, _, folder = item.partition("=")
        if not name or not folder:
            raise LabError(f"{VARIABLE}: {item!r} is not NAME=DIR")
        if name in OWN:
            raise LabError(f"{VARIABLE}: the lab has its own {name!r}; choose another name")
        if name in found:
            raise LabError(f"{VARIABLE}: the name {name!r} is given twice")
        try:
            found[name] = _installation((base / folder).resolve())
        except LabError as error:
            raise LabError(f"{VARIABLE}: {name}: {error}") from None
    return found


def _installation(folder: Path) -> Installation:
    """Return what a directory has: a root with a shell, or files that `make install` wrote."""
    if not folder.is_dir():
        raise LabError(f"{str(folder)!r} is not a directory")
    prefix = next((each for each in PREFIXES if _exists(folder / each / "sbin" / "ipsec")), None)
    if prefix is None:
        raise LabError(f"{str(folder)!r} has neither usr/local/sbin/ipsec nor usr/sbin/ipsec")
    if not _exists(folder / "bin" / "sh"):
        if folder.is_relative_to(f"/{prefix}"):  # overlayfs takes no lower layer inside of another
            raise LabError(f"{str(folder)!r} is below /{prefix}; move it to another place")
        return Installation(layer=str(folder), prefix=f"/{prefix}")
    if not _exists(folder / "opt" / "cablectl" / "cablectl"):
        raise LabError(
            f"{str(folder)!r} is a root without /opt/cablectl; begin with a copy of .lab/trixie"
        )
    return Installation(root=str(folder), prefix=f"/{prefix}")


def _exists(path: Path) -> bool:
    """Tell whether a path exists, also as a link that leads somewhere only in its own root."""
    return os.path.lexists(path)
