"""The argv of every whack command, measured on 4.0 to 5.4; docs/libreswan.md has the table."""

import re
from collections.abc import Iterable
from typing import assert_never

from cablectl.errors import UsageError
from cablectl.libreswan.authentication import authentication_of
from cablectl.libreswan.dialects import Dialect, Version, dialect
from cablectl.libreswan.limits import options_for
from cablectl.libreswan.pluto_commands import WHACK
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection, End
from cablectl.model.wishes import Encapsulation, Esn, Initiate, Ipsec, Mode, Offload

NO_SCRIPT = "%disabled"  # pluto's word for an updown that it doesn't run


def add(cable: Cable, connection: Connection, version: Version, *, nic_can: bool = False) -> Argv:
    """Return the command that loads a connection into pluto.

    `nic_can` says whether the NIC supports ESP offload.
    UsageError if the release doesn't support what the file asks for.
    """
    options, authentication = dialect(version), authentication_of(cable.ipsec)
    return (
        *WHACK,
        *authentication.flags(cable),
        "--encrypt",
        *(options.ipv6 if cable.local.address.version == 6 else ()),
        *(options.tunnel if connection.mode is Mode.TUNNEL else options.transport),
        *_encapsulation(cable.encapsulation, options),
        "--name",
        connection.name,
        *_end(connection.local, connection.mode),
        *(("--updown", NO_SCRIPT) if skips_script(cable) else ()),
        *authentication.end_flags(cable, cable.local, options),
        "--to",
        *_end(connection.remote, connection.mode),
        *authentication.end_flags(cable, cable.remote, options),
        *_algorithms(cable.ipsec, options),
        *(options.esn if cable.ipsec.esn is Esn.YES else ()),
        *options_for(cable.ipsec, version),
        *_offload(cable, version, nic_can),
        *_dead_peer_detection(cable, options),
    )


def skips_script(cable: Cable) -> bool:
    """Return whether pluto runs no `_updown`, since the script would do nothing.

    pluto waits for it, several times for each connection and Child SA. Between subnets the script
    adds the route if the host has none. `initiate: both` asks for the proposal's own commands.
    """
    return not (cable.joins_subnets or cable.ipsec.initiate is Initiate.BOTH)


def is_already_loaded(output: Iterable[str]) -> bool:
    """Return whether `add` was refused because the connection is loaded (exit code 20)."""
    return any("attempt to redefine connection" in line for line in output)


def route(name: str) -> Argv:
    """Return the command that installs the trap policies.

    Afterwards the kernel encrypts or drops the connection's traffic.
    """
    return (*WHACK, "--route", "--name", name)


def unroute(name: str) -> Argv:
    """Return the command that removes the trap policies.

    It has to follow `terminate`: pluto 4.10 crashes otherwise.
    """
    return (*WHACK, "--unroute", "--name", name)


def initiate(name: str) -> Argv:
    """Return the command that starts the negotiation and doesn't wait for the result."""
    return (*WHACK, "--initiate", "--asynchronous", "--name", name)


def initiate_and_tell(name: str) -> Argv:
    """Return the command that negotiates and prints the progress.

    Only this command shows why the peer refuses.
    """
    return (*WHACK, "--initiate", "--name", name)


def terminate(name: str) -> Argv:
    """Return the command that removes the SAs and leaves the connection loaded."""
    return (*WHACK, "--terminate", "--name", name)


def delete(name: str) -> Argv:
    """Return the command that removes a connection, its SAs and its policies."""
    return (*WHACK, "--delete", "--name", name)


def delete_state(serial: int) -> Argv:
    """Return the command that deletes one SA by its state number, and tells the peer."""
    return (*WHACK, "--deletestate", str(serial))


def retire(serial: int) -> Argv:
    """Return the command that deletes an SA, from 4.7 on without waiting for the peer."""
    return (*delete_state(serial), "--asynchronous")


def has_no_state(output: Iterable[str]) -> bool:
    """Return whether `delete_state` failed since pluto no longer has that SA (exit code 21)."""
    return any(re.search(r"no state #\d+ to delete", line) for line in output)


def deleted_by(argv: Argv) -> str:
    """Return the name of the connection that a command removes; "" for another command."""
    return argv[-1] if argv == delete(argv[-1]) else ""


def tuning(cable: Cable, version: Version, *, nic_can: bool) -> Argv:
    """Return the options with a value by which `add` tunes a connection, each with its value."""
    options = dialect(version)
    return (
        *_ike(cable.ipsec, options),
        *_esp(cable.ipsec),
        *options_for(cable.ipsec, version),
        *_offload(cable, version, nic_can),
        *_dead_peer_detection(cable, options),
    )


def protoport(end: End) -> str:
    """Return an end's protocol and port, such as udp/4789; empty for all traffic."""
    protocol = end.protocol.word if end.protocol else ""
    return protocol if end.port is None else f"{protocol}/{end.port}"


def _end(end: End, mode: Mode) -> Argv:
    selector = protoport(end)
    return (
        *(("--id", end.identity) if end.identity else ()),
        *("--host", "%any" if end.host is None else str(end.host)),
        *(("--client", str(end.network)) if mode is Mode.TUNNEL else ()),
        *(("--clientprotoport", selector) if selector else ()),
        *(("--ikeport", str(end.ike_port)) if end.ike_port else ()),
    )


def _encapsulation(encapsulation: Encapsulation, options: Dialect) -> Argv:
    match encapsulation:
        case Encapsulation.AUTO:
            return ()
        case Encapsulation.YES:
            return options.encapsulate
        case Encapsulation.NO:
            return ("--encaps", "no")
        case _:
            assert_never(encapsulation)


def _algorithms(ipsec: Ipsec, options: Dialect) -> Argv:
    """Return the IKE proposals, and the ESP proposals, each with the PFS group.

    Releases before 5.3 also have --pfsgroup, but it gives the group to the last proposal only, and
    pluto then refuses two proposals.
    """
    ike, esp = _ike(ipsec, options), _esp(ipsec)
    return (*ike, *(("--pfs",) if ipsec.pfs_group else ()), *esp)


def _ike(ipsec: Ipsec, options: Dialect) -> Argv:
    return (options.ike, ",".join(ipsec.ike)) if ipsec.ike else ()


def _esp(ipsec: Ipsec) -> Argv:
    return ("--esp", _proposals(ipsec)) if ipsec.esp else ()


def _proposals(ipsec: Ipsec) -> str:
    group = f";{ipsec.pfs_group}" if ipsec.pfs_group else ""
    return ",".join(f"{name}{group}" for name in ipsec.esp)


def _offload(cable: Cable, version: Version, nic_can: bool) -> Argv:
    options, offload = dialect(version), cable.ipsec.offload
    match offload:
        case Offload.OFF:
            return options.no_offload
        case Offload.REQUIRED:
            return options.offload
        case Offload.PACKET:
            if not options.packet_offload:
                raise UsageError(
                    f"ipsec.offload: Libreswan {version} can't offload whole packets",
                    hint="set offload: auto, or install Libreswan 5.0 or later",
                )
            return ("--nic-offload", "packet")
        case Offload.AUTO:
            # The kernel refuses to offload an SA with UDP encapsulation; 5.x then has no SA at all.
            bare_esp = cable.encapsulation is Encapsulation.NO
            return options.offload_if_it_can if nic_can and bare_esp else ()
        case _:
            assert_never(offload)


def algorithms_to_parse(cable: Cable) -> Argv:
    """Return the file's algorithms in the syntax of `ipsec algparse`: ike=… and esp=…."""
    ipsec = cable.ipsec
    return (
        *((f"ike={','.join(ipsec.ike)}",) if ipsec.ike else ()),
        *((f"esp={_proposals(ipsec)}",) if ipsec.esp else ()),
    )


def _dead_peer_detection(cable: Cable, options: Dialect) -> Argv:
    dpd = cable.ipsec.dpd
    if dpd is None:
        return ()
    action = ("--dpdaction", dpd.action.value) if options.dpd_action else ()
    # IKEv2 gives a peer up when its retransmissions end; whack only wants both options together.
    timeout = ("--dpdtimeout", str(2 * dpd.delay)) if options.dpd_timeout else ()
    return (*action, "--dpddelay", str(dpd.delay), *timeout)
