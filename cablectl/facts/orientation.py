"""Why pluto can use none of this host's interfaces for a connection: it is unoriented.

The usual cause is that no interface has the local end's address. Every command says this in the
same words.
"""

from collections.abc import Iterable

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Facts
from cablectl.libreswan import pluto
from cablectl.linux import esp_offload, xfrm
from cablectl.linux.xfrm import Policy
from cablectl.model.cable import Cable


def unoriented(cable: Cable, facts: Facts) -> tuple[str, ...]:
    """Return the names of the cable's loaded connections that are unoriented."""
    return tuple(name for name, loaded in facts.loaded(cable).items() if loaded.unoriented)


def left_policies(cable: Cable, facts: Facts) -> tuple[Policy, ...]:
    """Return the policies of unoriented connections that pluto leaves in the kernel.

    pluto 5.2 leaves those for outgoing packets when the connection's address is gone, also when it
    unloads the connection later (docs/libreswan.md). pluto 4.10 removes them.
    """
    names = {*cable.names, *facts.outdated(cable)}
    connections = (
        pluto.connection_of(name, entry)
        for name, entry in facts.connections.items()
        if entry.unoriented and name in names
    )
    return tuple(
        policy
        for connection in connections
        if connection
        for policy in xfrm.policies(connection)
        if policy in facts.policies
    )


def absent(cable: Cable, instead: str, *, was_here: bool = False) -> tuple[str, str]:
    """Return that no interface of this host has the local end's address, and what to do.

    `instead` is the address that this host has towards the peer; empty if unknown. `was_here` says
    that the cable was made while this host had the local end's address.
    """
    local = cable.local
    whose = "" if cable.traced else f", the address of {local.cluster}"
    if was_here:
        new = instead or "the new address"
        return (
            f"this host no longer has {local.address}{whose}"
            + (f"; its address is {instead} now" if instead else ""),
            f"write {new} instead of {local.address} in the file of every gateway, then run connect"
            " on every gateway",
        )
    message = f"no interface of this host has {local.address}{whose}"
    for peer in cable.sharing:
        if instead == str(peer.address):
            return (
                f"{message}, but one has {instead}, the address of {peer.cluster}",
                f"leave out --local, or run the same command on {local.hostname}",
            )
    if local.public_address:
        remedy = f"write address: {instead}" if instead else f"correct address: {local.address}"
        return message, f"{remedy}; `ip address` lists the addresses of this host"
    public = f"public_address: {local.address}"
    if instead:
        return (
            message,
            f"if it is this host's public address: write address: {instead} and {public}",
        )
    return (
        message,
        "`ip address` lists the addresses of this host: write one of them as address; if"
        f" {local.address} is this host's public address, also write {public}",
    )


def cause(cable: Cable, facts: Facts) -> tuple[str, str]:
    """Return why the cable's connections are unoriented on this host, and what to do."""
    local, offload = cable.local.address, cable.ipsec.offload
    if not facts.holds_address:
        return absent(cable, facts.instead, was_here=facts.was_made_at(cable))
    if offload in esp_offload.NEEDED and not (facts.nic and facts.nic.can):
        device = facts.nic.device if facts.nic else "the NIC"
        return (
            f"{device} has no ESP offload, and the file has ipsec.offload: {offload}",
            "write offload: auto in the file, then run connect again",
        )
    return (
        f"pluto uses no interface that has {local}",
        "correct listen= in /etc/ipsec.conf if it is there, restart pluto, then run connect again",
    )


def error(cable: Cable, facts: Facts, details: Iterable[str] = ()) -> HostNotReadyError:
    """Return the error of a connect that leaves the cable's connections unoriented."""
    reason, remedy = cause(cable, facts)
    message = f"pluto can't use {cable.remote.cable_name} on this host: {reason}"
    return HostNotReadyError(message, hint=remedy, details=details)
