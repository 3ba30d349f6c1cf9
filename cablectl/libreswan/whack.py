"""What each Libreswan takes: dialects as data, and the argv of `whack`.

Measured on 4.10 and 5.2, read in the sources of 5.3: docs/libreswan.md has the table.
"""

from typing import assert_never

from cablectl.errors import UsageError
from cablectl.libreswan.dialects import Dialect, PfsForm, Version, dialect
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable, Connection, End
from cablectl.model.wishes import Encapsulation, Esn, Mode, Offload

WHACK: Argv = ("ipsec", "whack")
LISTEN: Argv = (*WHACK, "--listen")  # also reads the secrets again
REREAD_SECRETS: Argv = (*WHACK, "--rereadsecrets")
STATUS: Argv = (*WHACK, "--status")
TRAFFIC_STATUS: Argv = (*WHACK, "--trafficstatus")
STACK_MANAGER: Argv = ("ipsec", "_stackmanager", "start")


def add(cable: Cable, connection: Connection, version: Version, *, nic_can: bool = False) -> Argv:
    """Load a connection into pluto; UsageError if that release can't do what the file asks.

    `nic_can` says whether the NIC does ESP.
    """
    speaks = dialect(version)
    return (
        *WHACK,
        "--psk",
        "--encrypt",
        *(speaks.tunnel if connection.mode is Mode.TUNNEL else speaks.transport),
        *_encapsulation(cable.encapsulation, speaks),
        "--name",
        connection.name,
        *_end(connection.local, connection.mode),
        "--to",
        *_end(connection.remote, connection.mode),
        *_algorithms(cable, speaks),
        *(speaks.esn if cable.ipsec.esn is Esn.YES else ()),
        *_offload(cable, version, nic_can),
        *_dead_peer_detection(cable, speaks),
    )


def route(name: str) -> Argv:
    """Install the trap policies: from here on its traffic is encrypted or dropped."""
    return (*WHACK, "--route", "--name", name)


def unroute(name: str) -> Argv:
    """Remove the trap policies; only after `terminate`, or 4.10 dies."""
    return (*WHACK, "--unroute", "--name", name)


def initiate(name: str) -> Argv:
    """Begin the negotiation and don't wait for its end."""
    return (*WHACK, "--initiate", "--asynchronous", "--name", name)


def initiate_and_tell(name: str) -> Argv:
    """Begin the negotiation and print how it goes: the one way to see the peer's refusal."""
    return (*WHACK, "--initiate", "--name", name)


def terminate(name: str) -> Argv:
    """Take the SAs down and leave the connection loaded."""
    return (*WHACK, "--terminate", "--name", name)


def delete(name: str) -> Argv:
    """Unload a connection, its SAs and its policies."""
    return (*WHACK, "--delete", "--name", name)


def _end(end: End, mode: Mode) -> Argv:
    protocol = end.protocol.word if end.protocol else ""
    protoport = protocol if end.port is None else f"{protocol}/{end.port}"
    return (
        *(("--id", end.identity) if end.identity else ()),
        *("--host", "%any" if end.host is None else str(end.host)),
        *(("--client", str(end.network)) if mode is Mode.TUNNEL else ()),
        *(("--clientprotoport", protoport) if protoport else ()),
        *(("--ikeport", str(end.ike_port)) if end.ike_port else ()),
    )


def _encapsulation(asked: Encapsulation, speaks: Dialect) -> Argv:
    if asked is Encapsulation.AUTO:
        return ()
    return speaks.encapsulate if asked is Encapsulation.YES else ("--encaps", "no")


def _algorithms(cable: Cable, speaks: Dialect) -> Argv:
    group, esp = cable.ipsec.pfs_group, ",".join(cable.ipsec.esp)
    if group and speaks.pfs is PfsForm.IN_ESP:
        return ("--pfs", "--esp", ",".join(f"{each};{group}" for each in cable.ipsec.esp))
    pfs = ("--pfs", "--pfsgroup", group) if group else ()
    return (*pfs, *(("--esp", esp) if esp else ()))


def _offload(cable: Cable, version: Version, nic_can: bool) -> Argv:
    speaks = dialect(version)
    match cable.ipsec.offload:
        case Offload.OFF:
            return speaks.no_offload
        case Offload.REQUIRED:
            return speaks.offload
        case Offload.PACKET:
            if not speaks.packet_offload:
                raise UsageError(
                    f"ipsec.offload: Libreswan {version} can't offload whole packets",
                    hint="offload: auto, or Libreswan 5.0 and later",
                )
            return ("--nic-offload", "packet")
        case Offload.AUTO:
            # The kernel takes no SA for a NIC if ESP is in UDP, and 5.x then has none at all.
            bare = cable.encapsulation is Encapsulation.NO
            return speaks.offload_if_it_can if nic_can and bare else ()
        case _:
            assert_never(cable.ipsec.offload)


def algorithms_to_parse(cable: Cable) -> str:
    """Return the file's algorithms as `ipsec algparse` takes them; empty if there are none."""
    group = f";{cable.ipsec.pfs_group}" if cable.ipsec.pfs_group else ""
    names = ",".join(f"{name}{group}" for name in cable.ipsec.esp)
    return f"esp={names}" if names else ""


def _dead_peer_detection(cable: Cable, speaks: Dialect) -> Argv:
    dpd = cable.ipsec.dpd
    if dpd is None:
        return ()
    action = ("--dpdaction", dpd.action.value) if speaks.dpd_action else ()
    return (*action, "--dpddelay", str(dpd.delay))
