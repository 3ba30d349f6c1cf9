"""The command that loads a connection by `ipsec addconn`, since no whack has an option for a PPK.

The settings are those of ipsec.conf(5), on standard input. They give the connection that
`whack.add` loads (docs/libreswan.md), and refuse a peer without the PPK.
"""

from cablectl.libreswan import whack
from cablectl.libreswan.dialects import Version, dialect
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection, End
from cablectl.model.wishes import Esn, Mode

# $1 is the connection's name, and each other argument is a line.
_PROGRAM = 'name=$1; shift; printf "%s\\n" "$@" | ipsec addconn --config - "$name"'
# whack's options that have another name in ipsec.conf(5); all releases take this old name.
_RENAMED = {"ipsec-lifetime": "salifetime", "ipseclifetime": "salifetime"}


def add(cable: Cable, connection: Connection, version: Version, *, nic_can: bool = False) -> Argv:
    """Return the command that loads a connection, which insists on the cable's PPK.

    `nic_can` says whether the NIC supports ESP offload. An equally named connection is replaced.
    UsageError if the release doesn't support what the file asks for.
    """
    row = dialect(version)
    settings = {
        **row.unlike_whack,
        "authby": "secret",  # a PPK goes only with a pre-shared key
        "type": "tunnel" if connection.mode is Mode.TUNNEL else "transport",
        "encapsulation": cable.encapsulation.value,
        **_end("left", connection.local, connection.mode),
        **({"leftupdown": whack.NO_SCRIPT} if whack.skips_script(cable) else {}),
        **_end("right", connection.remote, connection.mode),
        **_tuning(cable, version, nic_can),
        **({"pfs": "yes"} if cable.ipsec.pfs_group else {}),
        **({"esn": "either"} if cable.ipsec.esn is Esn.YES else {}),
        "ppk": "insist",
        **({"ppk-ids": cable.pair} if row.ppk_ids else {}),
    }
    lines = (f"conn {connection.name}", *(f"  {key}={value}" for key, value in settings.items()))
    return ("sh", "-c", _PROGRAM, "sh", connection.name, *lines)


def _end(side: str, end: End, mode: Mode) -> dict[str, str]:
    """Return the settings of one end; whack's `_end` has the same as options."""
    settings = {"": "%any" if end.host is None else str(end.host)}
    if end.identity:
        settings["id"] = end.identity
    if mode is Mode.TUNNEL:
        settings["subnet"] = str(end.network)
    if protoport := whack.protoport(end):
        settings["protoport"] = protoport
    if end.ike_port:
        settings["ikeport"] = str(end.ike_port)
    return {f"{side}{key}": value for key, value in settings.items()}


def _tuning(cable: Cable, version: Version, nic_can: bool) -> dict[str, str]:
    """Return what whack takes as an option with a value."""
    words = whack.tuning(cable, version, nic_can=nic_can)
    names = (option.removeprefix("--") for option in words[::2])
    return {_RENAMED.get(name, name): value for name, value in zip(names, words[1::2], strict=True)}
