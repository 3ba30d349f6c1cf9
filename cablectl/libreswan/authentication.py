"""The methods by which two gateways authenticate: one protocol, one class for each method."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, assert_never

from cablectl.libreswan import secrets_file
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Ipsec, PskEnv, PskFile


class Authentication(Protocol):
    """One method: its whack options, its commands, and the file that marks a cable as ours.

    The name of a connection proves nothing, since Submariner uses the same names. The mark is a
    file in pluto's directory that only cablectl writes, named after the cable.
    """

    flags: ClassVar[Argv]
    """The options with which `ipsec whack` loads a connection."""

    def place(self, cable: Cable) -> str:
        """Return the path of the file that holds the cable's credential and marks the cable."""

    def install(self, cable: Cable) -> Argv:
        """Return the command that writes the cable's credential; its key is never in the argv."""

    def install_all(self, cables: Sequence[Cable]) -> Argv:
        """Return the command that writes the credentials of several cables of one file."""

    def remove(self, cable_id: str) -> tuple[Argv, ...]:
        """Return the commands that remove the credential and make pluto forget it, in order."""


class PreSharedKey(Authentication):
    """A pre-shared key in the cable's own secrets file (ipsec.secrets(5))."""

    flags: ClassVar[Argv] = ("--psk",)

    def place(self, cable: Cable) -> str:
        """Return the path of the secrets file."""
        return secrets_file.path(cable)

    def install(self, cable: Cable) -> Argv:
        """Return the command that writes the secrets file."""
        return secrets_file.write(cable)

    def install_all(self, cables: Sequence[Cable]) -> Argv:
        """Return the command that writes several secrets files with the same key."""
        return secrets_file.write_all(cables)

    def remove(self, cable_id: str) -> tuple[Argv, ...]:
        """Return the commands that remove the secrets file and make pluto reload its secrets."""
        return secrets_file.remove_of(cable_id)


def authentication_of(ipsec: Ipsec) -> Authentication:
    """Return the method that a file asks for."""
    match ipsec.psk:
        case PskFile() | PskEnv():
            return PreSharedKey()
        case _:
            assert_never(ipsec.psk)


def marked_cables(files: Iterable[str]) -> frozenset[str]:
    """Return the ids of cablectl's own cables, by the names of the files in pluto's directory."""
    return secrets_file.ids(files)
