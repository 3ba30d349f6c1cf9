"""Why pluto can use none of this host's interfaces for a connection: it is unoriented."""

from collections.abc import Iterable

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import Facts
from cablectl.linux import esp_offload
from cablectl.model.cable import Cable


def unoriented(cable: Cable, facts: Facts) -> tuple[str, ...]:
    """Return the names of the cable's loaded connections that are unoriented."""
    return tuple(name for name, loaded in facts.loaded(cable).items() if loaded.unoriented)


def cause(cable: Cable, facts: Facts) -> tuple[str, str]:
    """Return why the cable's connections are unoriented on this host, and what to do."""
    local, offload = cable.local.address, cable.ipsec.offload
    if not facts.holds_address:
        return (
            f"no interface of this host has {local}",
            f"`ip address` lists the addresses; add {local} to an interface, or correct the file",
        )
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
