"""The methods by which two gateways authenticate: one protocol, one class for each method."""

from collections.abc import Iterable, Sequence
from typing import ClassVar, Protocol, assert_never

from cablectl.libreswan import nss, secrets_file
from cablectl.libreswan.dialects import Dialect
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.wishes import Endpoint, Ipsec
from cablectl.model.x509 import Auth, KeyType


class Authentication(Protocol):
    """One method: its whack options, its commands, and the file that marks a cable as ours.

    The name of a connection proves nothing, since Submariner uses the same names. The mark is a
    file in pluto's directory that only cablectl writes, named after the cable.
    """

    limit: ClassVar[float]
    """The seconds that its commands may take."""

    def flags(self, cable: Cable) -> Argv:
        """Return the options with which `ipsec whack` loads a connection."""

    def end_flags(self, cable: Cable, end: Endpoint, options: Dialect) -> Argv:
        """Return the options of one end of the connection."""

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

    limit = 20  # seconds, as for every other command

    def flags(self, cable: Cable) -> Argv:  # noqa: ARG002 - alike for all cables
        """Return the option for a pre-shared key."""
        return ("--psk",)

    def end_flags(self, cable: Cable, end: Endpoint, options: Dialect) -> Argv:  # noqa: ARG002
        """Return nothing: both ends have the same key."""
        return ()

    def place(self, cable: Cable) -> str:
        """Return the path of the secrets file."""
        return secrets_file.path(cable)

    def install(self, cable: Cable) -> Argv:
        """Return the command that writes the secrets file."""
        return secrets_file.write(cable)

    def install_all(self, cables: Sequence[Cable]) -> Argv:
        """Return the command that writes several secrets files."""
        return secrets_file.write_all(cables)

    def remove(self, cable_id: str) -> tuple[Argv, ...]:
        """Return the commands that remove the secrets file and make pluto reload its secrets."""
        return secrets_file.remove(cable_id)


def key_type(cable: Cable, endpoint: Endpoint) -> KeyType:
    """Return the type of the key in an endpoint's certificate."""
    return endpoint.key_type or cable.certificates.key_type


class Certificate(Authentication):
    """A certificate in NSS, and a mark without a key in the place of a secrets file.

    Libreswan doesn't look at the certificate to know which signature it can make. With keys of one
    type a single option says so. Otherwise each end has its own, since --rsasig with --ecdsa lets
    this end only sign with RSA (source of 4.10 and 5.4, local_v2_auth).
    """

    limit = 60  # seconds: a tool of NSS opens its database anew for each certificate

    def flags(self, cable: Cable) -> Argv:
        """Return the option for the type of both keys, if they have one type."""
        types = {key_type(cable, end) for end in (cable.local, cable.remote)}
        return (f"--{'rsasig' if KeyType.RSA in types else 'ecdsa'}",) if len(types) == 1 else ()

    def end_flags(self, cable: Cable, end: Endpoint, options: Dialect) -> Argv:
        """Return the options for the certificate of this end, and for the type of an end's key."""
        own = end is cable.local
        is_mixed = key_type(cable, cable.local) is not key_type(cable, cable.remote)
        signature = "rsasig" if key_type(cable, end) is KeyType.RSA else "ecdsa"
        name = cable.certificates.nss_name
        # The peer may lack the authorities between this certificate and the root.
        certificate = ("--cert", name, "--sendcert", "always", "--sendca", "all")
        return (
            *(certificate if own else ()),
            *((options.auth, signature) if is_mixed else ()),
        )

    def place(self, cable: Cable) -> str:
        """Return the path of the mark."""
        return secrets_file.path(cable)

    def install(self, cable: Cable) -> Argv:
        """Return the command that imports the certificate and writes the mark."""
        return nss.install_all([cable])

    def install_all(self, cables: Sequence[Cable]) -> Argv:
        """Return the command that imports the certificate and writes several marks."""
        return nss.install_all(cables)

    def remove(self, cable_id: str) -> tuple[Argv, ...]:
        """Return the commands that remove the mark and what no other cable needs."""
        return nss.remove(cable_id)


def authentication_of(ipsec: Ipsec) -> Authentication:
    """Return the method that a file asks for."""
    match ipsec.auth:
        case Auth.PSK:
            return PreSharedKey()
        case Auth.CERT:
            return Certificate()
        case _:
            assert_never(ipsec.auth)


def marked_cables(files: Iterable[str]) -> frozenset[str]:
    """Return the ids of cablectl's own cables, by the names of the files in pluto's directory."""
    return secrets_file.cable_ids(files)
