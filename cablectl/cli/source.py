"""From the files of a command line to cables: one file of cablectl, or Submariner's documents."""

import os
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from cablectl.config import native
from cablectl.errors import HostNotReadyError, UsageError
from cablectl.host import daemon, devices, files, keys, rotation_state, trust
from cablectl.model.cable import Cable
from cablectl.model.network import Network
from cablectl.model.wishes import Endpoint
from cablectl.render.text import printable


class FileStates:
    """Tells whether files were changed since it was asked the last time."""

    def __init__(self, names: list[str]) -> None:
        self._names = names
        self._states = self._read()

    def changed(self) -> bool:
        """Return whether a file was changed; never for standard input, which is read only once."""
        before, self._states = self._states, self._read()
        return "-" not in self._names and self._states != before

    def _read(self) -> list[tuple[int, int, int]]:
        states = []
        for name in self._names:
            with suppress(OSError):
                state = Path(name).stat()
                states.append((state.st_ino, state.st_size, state.st_mtime_ns))
        return states


class Chosen(NamedTuple):
    """The cables that a command is for, and the other cables of the file.

    `narrowed` is true if peers were named: then the command is for these alone, even if the file
    has no others.
    """

    cables: tuple[Cable, ...]
    others: tuple[Cable, ...]
    narrowed: bool


def chosen(
    names: list[str], local: str | None, peers: list[str] | None, *, trusted: bool = False
) -> Chosen:
    """Return the cables of the files, seen from the end that is named or that this host is.

    `trusted`: HostNotReadyError for a file that another user can change; otherwise a warning.
    """
    network = wished(names, trusted=trusted)
    end = named_end(network, local) if local else _this_host(network)
    named = [_named(network, "--peer", peer) for peer in peers or ()]
    if end in named:
        raise UsageError(
            f"--peer {(peers or [])[named.index(end)]!r} is the local end, {end}",
            hint="name another endpoint, or name the local end with --local",
        )
    ids = {cable.id for cable in network.cables(end, named)}
    every = rotation_state.as_they_are(network.cables(end))
    return Chosen(
        tuple(cable for cable in every if cable.id in ids),
        tuple(cable for cable in every if cable.id not in ids),
        narrowed=bool(named),
    )


def wished(names: list[str], *, trusted: bool = False) -> Network:
    """Return what the files and the environment ask for; `trusted` as in `chosen`."""
    network = described(names, trusted=trusted)
    return network.encapsulated() if forces_encapsulation() else network


def named_end(network: Network, name: str, option: str = "--local") -> Endpoint:
    """Return the endpoint that --local or another option names."""
    return _named(network, option, name)


def _named(network: Network, option: str, name: str) -> Endpoint:
    """Return the endpoint that an option names; the UsageError for an unknown name says which."""
    try:
        return network.named(name)
    except UsageError as error:
        raise UsageError(f"{option} {error.message}", hint=error.hint) from None


def _this_host(network: Network) -> Endpoint:
    """Return the endpoint whose address this host has; UsageError if there isn't exactly one.

    A host that has lost its address is known by the cables that it made.
    """
    ends = network.held_by(devices.addresses(), os.uname().nodename)
    if len(ends) == 1:
        return ends[0]
    hint = f"name the local end with --local: {network.listed}"
    if ends:
        raise UsageError("this host has the address of more than one endpoint", hint=hint)
    from cablectl.facts import earlier_addresses  # other hosts do without it

    if end := earlier_addresses.lost_end(network, daemon.identities(), devices.links()):
        return end
    own = devices.source_towards(network.endpoints[0].address) or "the address of an interface"
    hint += f"; if the file has this host's public address, write it as public_address, and {own}"
    raise UsageError("this host has the address of no endpoint", hint=f"{hint} as address")


def refuse_ends_without_file(
    files: list[str] | None, local: str | None, peers: list[str] | None
) -> None:
    """Raise a UsageError for --local or --peer without the file that they choose from."""
    if (local or peers) and not files:
        raise UsageError(f"--{'local' if local else 'peer'} needs a FILE")


def described(names: list[str], *, trusted: bool = False) -> Network:
    """Return what the files describe: one of cablectl's, or documents of Submariner.

    `trusted` is as in `chosen`.
    """
    texts = {name: read(name, trusted=trusted) for name in names}
    if not any(map(_has_objects, texts.values())):
        if len(texts) == 1:
            return native.parse(texts[names[0]], names[0])
        raise UsageError(
            f"{len(texts)} files were given, and none of them is a document of Submariner",
            hint="give one file of cablectl; it describes all ends",
        )
    from cablectl.config.submariner import documents  # a file of cablectl does without it

    found = documents.parse(texts)
    notes(found.notes)
    if found.key:
        keys.put_into_environment(documents.VARIABLE, found.key)
    return found.network


def read(name: str, *, trusted: bool = False) -> str:
    """Return a file's text; refuse a file that another user can change, or warn of it.

    Whoever can change the file of a connect by root chooses root's routes and peers.
    """
    problem = None if name == "-" else next(trust.of_input(Path(name)), None)
    text = files.read(name)  # if this fails, its error is the one that helps
    if not problem:
        return text
    message, hint = problem
    if trusted:
        raise HostNotReadyError(f"{name} isn't trusted: {message}", hint=hint)
    warning = printable(f"connect refuses {name}: {message}")
    print(f"cablectl: warning: {warning}", file=sys.stderr)
    return text


def _has_objects(text: str) -> bool:
    """Tell whether a text holds objects of Kubernetes."""
    if "apiVersion" not in text:  # most files: nothing to parse for, and nothing to import
        return False
    from cablectl.config.submariner.documents import has_objects

    return has_objects(text)


def notes(lines: Iterable[str]) -> None:
    """Print notes on stderr, such as what was left out of documents."""
    for line in lines:
        print(f"cablectl: note: {printable(line)}", file=sys.stderr)


def forces_encapsulation() -> bool:
    """Tell whether the variable of Submariner's driver asks for ESP in UDP."""
    return os.environ.get("CE_IPSEC_FORCEENCAPS", "").lower() in ("1", "t", "true")
