"""What the commands share: their arguments, and the way from a file to a cable."""

import os
import sys
from collections.abc import Iterable
from typing import NamedTuple

from cablectl.config import native
from cablectl.errors import UsageError
from cablectl.host import devices, files, keys
from cablectl.model.cable import Cable
from cablectl.model.network import Network


class Chosen(NamedTuple):
    """The cables that a command is for, those of the file that it leaves alone, and if it is told.

    Whoever names peers means them alone, also where the file has no others.
    """

    cables: tuple[Cable, ...]
    others: tuple[Cable, ...]
    narrowed: bool


def chosen(names: list[str], local: str | None, peers: list[str] | None) -> Chosen:
    """Return the cables of the files, seen from the end that is named or that this host is."""
    network = described(names)
    if forces_encapsulation():
        network = network.encapsulated()
    end = network.named(local) if local else network.held_by(devices.addresses())
    every, named = network.cables(end), network.cables(end, peers or ())
    ids = {each.id for each in named}
    others = tuple(each for each in every if each.id not in ids)
    return Chosen(named, others, narrowed=bool(peers))


def described(names: list[str]) -> Network:
    """Return what the files describe: one of cablectl's, or documents of Submariner."""
    texts = {name: files.read(name) for name in names}
    if not any(map(_has_objects, texts.values())):
        if len(texts) == 1:
            return native.parse(texts[names[0]], names[0])
        raise UsageError(
            f"{len(texts)} files, and none is a document of Submariner",
            hint="give one file of cablectl; it describes all ends",
        )
    from cablectl.config.submariner import documents  # a file of cablectl does without it

    found = documents.parse(texts)
    notes(found.notes)
    if found.key:
        keys.put_into_environment(documents.VARIABLE, found.key)
    return found.network


def _has_objects(text: str) -> bool:
    """Tell whether a text holds objects of Kubernetes."""
    if "apiVersion" not in text:  # most files: nothing to parse for, and nothing to import
        return False
    from cablectl.config.submariner.documents import has_objects

    return has_objects(text)


def notes(lines: Iterable[str]) -> None:
    """Say on stderr what was left out of documents."""
    for line in lines:
        print(f"cablectl: note: {line}", file=sys.stderr)


def forces_encapsulation() -> bool:
    """Tell whether the variable of Submariner's driver asks for ESP in UDP."""
    return os.environ.get("CE_IPSEC_FORCEENCAPS", "").lower() in ("1", "t", "true")
