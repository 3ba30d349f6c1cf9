"""Cable and facts → the plan that brings the cable up."""

from collections.abc import Iterator
from functools import partial

from cablectl import libreswan, mtu, secret, xfrm
from cablectl.errors import HostNotReadyError, UsageError
from cablectl.facts import Facts, Pluto, Secret
from cablectl.libreswan import Argv
from cablectl.model import Cable, Connection, Encapsulation, Offload
from cablectl.overlay import vxlan
from cablectl.plan import Action, Phase, Plan, Step

DAEMON_LIMIT = 60  # seconds to start the daemon, or to load two dozen modules on a slow host
WAIT_LIMIT = 60  # seconds for the Child SAs, unless the user says otherwise

# $1 is the connection's name, $2 the limit in seconds.
_AWAIT = (
    'i=0; until ipsec whack --trafficstatus | grep -qF "\\"$1\\", type=ESP";'
    " do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done"
)


def plan(cable: Cable, facts: Facts, *, wait: bool = True, limit: float = WAIT_LIMIT) -> Plan:
    """Return the plan that brings the cable up from what the facts say is there.

    UsageError if the MTU asked for is too large; HostNotReadyError if what is there isn't ours.
    """
    _refuse_if_not_ready(cable, facts)
    _refuse_what_is_not_ours(cable, facts)
    steps = (
        *_pluto(cable, facts),
        *_secret(cable, facts),
        *_connections(cable, facts),
        *_overlay(cable, facts, overlay_mtu(cable, facts)),
        *_initiate(cable, facts),
        *(_wait(cable, facts, limit) if wait else ()),
        *_up(cable, facts),
    )
    return Plan(
        action=Action.CONNECT,
        cable=cable,
        facts=facts,
        steps=steps,
        warnings=_warnings(cable, facts),
    )


def overlay_mtu(cable: Cable, facts: Facts) -> int:
    """Return the device's MTU in bytes: the file's, or the largest that fits the path."""
    largest = mtu.vxlan(
        facts.path_mtu,
        encapsulated=cable.ipsec.encapsulation is not Encapsulation.NO,
        esp=cable.ipsec.esp,
    )
    asked = cable.vxlan.mtu
    if asked and asked > largest:
        raise UsageError(
            f"vxlan.mtu: {asked} is too large by {asked - largest}"
            f" for a path of {facts.path_mtu} bytes",
            hint=f"at most {largest}, or auto",
        )
    return asked or largest


def _refuse_if_not_ready(cable: Cable, facts: Facts) -> None:
    for message, hint in facts.not_ready:
        raise HostNotReadyError(message, hint=hint)
    if facts.pluto is Pluto.DOWN:
        raise HostNotReadyError(
            "pluto isn't running, and this host has no systemd unit to start it",
            hint="start Libreswan's pluto, then try again",
        )
    if facts.pluto is Pluto.STARTABLE and _foreign_xfrm(cable, facts):
        raise HostNotReadyError(
            "pluto isn't running, and its start would flush IPsec policies that aren't ours",
            hint="see `ip xfrm policy`; start ipsec by hand if they may go",
        )
    if cable.vxlan.port != cable.vxlan.port_number != facts.service_port:
        raise HostNotReadyError(
            f"vxlan.port: this host's /etc/services doesn't call {cable.vxlan.port_number}/udp"
            f" {cable.vxlan.port}, and whack would refuse the name",
            hint=f"write port: {cable.vxlan.port_number}",
        )


def _refuse_what_is_not_ours(cable: Cable, facts: Facts) -> None:
    link, device = facts.overlay.link, cable.vxlan.device
    again = "teardown with the file that it was made from, then connect"
    if link and not link.is_of(cable):
        raise HostNotReadyError(
            f"the device {device} exists and cablectl didn't make it",
            hint="name another one in vxlan.device, or remove it",
        )
    wanted = (cable.vxlan.vni, cable.vxlan.port_number, str(cable.local.address))
    if link and (link.vni, link.port, link.local) != wanted:
        raise HostNotReadyError(f"the device {device} has another VNI, port or address", hint=again)
    if facts.secret is Secret.OTHER:
        raise HostNotReadyError(f"{secret.path(cable)} holds another secret", hint=again)
    for connection in cable.connections:
        loaded = facts.connections.get(connection.name)
        expected = libreswan.selectors(cable, connection)
        if loaded and loaded.selectors and loaded.selectors != expected:
            raise HostNotReadyError(
                f"pluto has {connection.name} with other addresses or ports", hint=again
            )


def _foreign_xfrm(cable: Cable, facts: Facts) -> bool:
    others = set(facts.sas) - set(xfrm.sas_of(cable, facts.sas))
    return bool(others or facts.policies - xfrm.policies_of(cable))


def _warnings(cable: Cable, facts: Facts) -> tuple[str, ...]:
    if cable.ipsec.dpd is None and libreswan.dialect(facts.libreswan).dpd_action:
        return (
            *facts.warnings,
            f"dpd: off on Libreswan {facts.libreswan}: pluto can abort when an IKE SA gets no"
            " answer; leave dpd out for the safe default",
        )
    return facts.warnings


def _pluto(cable: Cable, facts: Facts) -> Iterator[Step]:
    running = facts.pluto is Pluto.RUNNING
    yield Step(
        phase=Phase.PLUTO,
        argv=("systemctl", "start", "ipsec"),
        why="start the daemon the host's own way",
        undo=(("systemctl", "stop", "ipsec"),),
        not_needed="pluto is running" if running else "",
        limit=DAEMON_LIMIT,
    )
    not_needed = _no_modules_needed(cable, facts)
    yield Step(
        phase=Phase.OFFLOAD,
        argv=("pidof", "pluto"),
        why="the next command flushes all IPsec policies unless pluto is running",
        not_needed=not_needed,
    )
    yield Step(
        phase=Phase.OFFLOAD,
        argv=libreswan.STACK_MANAGER,
        why="the kernel's IPsec, and with it what offload needs; modules stay loaded afterwards",
        not_needed=not_needed,
        limit=DAEMON_LIMIT,
    )


def _no_modules_needed(cable: Cable, facts: Facts) -> str:
    """Return why there is nothing to load; whether a module is built in can't be seen anywhere."""
    if not libreswan.dialect(facts.libreswan).stack_manager:
        return f"Libreswan {facts.libreswan} has none"
    if cable.ipsec.offload is Offload.OFF:
        return "offload: off"
    if facts.modules:
        return "the modules are loaded"
    return "the connections are loaded" if _all_loaded(cable, facts) else ""


def _all_loaded(cable: Cable, facts: Facts) -> bool:
    return len(facts.loaded(cable)) == len(cable.connections)


def _secret(cable: Cable, facts: Facts) -> Iterator[Step]:
    there = f"{secret.path(cable)} is there" if facts.secret is Secret.SAME else ""
    yield Step(
        phase=Phase.SECRET,
        argv=secret.write(cable),
        why=f"{secret.path(cable)}, mode 0600",
        undo=secret.remove(cable),
        not_needed=there,
    )
    yield Step(
        phase=Phase.SECRET,
        argv=libreswan.LISTEN,
        why="pluto reads the secrets and its addresses again",
        not_needed=there if _all_loaded(cable, facts) else "",
    )


def _connections(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    for each in cable.connections:
        yield Step(
            phase=Phase.ADD,
            argv=libreswan.add(cable, each, facts.libreswan),
            why="what the local VTEP receives" if each.local.port else "what the local VTEP sends",
            undo=(libreswan.delete(each.name),),
            not_needed="loaded" if each.name in loaded else "",
        )
    for each in cable.connections:
        yield Step(
            phase=Phase.ROUTE,
            argv=libreswan.route(each.name),
            why="have the kernel ask for SAs, or drop",
            # Deleting a connection that is new is enough. One that was there stays, and on 4.10 an
            # --unroute while a Child SA is up kills pluto: see docs/libreswan.md.
            undo=(libreswan.terminate(each.name), libreswan.unroute(each.name))
            if each.name in loaded
            else (),
            not_needed="routed" if _routed(cable, facts, each) else "",
        )
    for each in cable.connections:
        yield Step(
            phase=Phase.ROUTE,
            argv=xfrm.get_policy(xfrm.policies(cable, each)[0]),
            why="whack's exit code proves nothing: see the policy in the kernel",
            not_needed="seen" if _routed(cable, facts, each) else "",
        )


def _routed(cable: Cable, facts: Facts, connection: Connection) -> bool:
    loaded = facts.connections.get(connection.name)
    out, _ = xfrm.policies(cable, connection)
    return loaded is not None and loaded.routed and out in facts.policies


def _overlay(cable: Cable, facts: Facts, size: int) -> Iterator[Step]:
    there, link = facts.overlay, facts.overlay.link
    step = partial(_made, Phase.OVERLAY)
    yield step(
        vxlan.add_link(cable, size),
        f"the VTEP's device; {size} bytes fill the path's {facts.path_mtu}",
        vxlan.delete_link(cable),
        done=link is not None,
    )
    if link and link.mtu != size:
        undo = vxlan.set_mtu(cable, link.mtu)
        yield step(vxlan.set_mtu(cable, size), f"was {link.mtu}", undo, done=False)
    yield step(
        vxlan.address(cable, "add"),
        "the VTEP's address",
        vxlan.address(cable, "delete"),
        done=link is not None and str(cable.local.vtep) in link.addresses,
    )
    for mac, gateway in vxlan.fdb_entries(cable):
        yield step(
            vxlan.fdb(cable, "append", mac, gateway),
            "broadcast and multicast go to the peer"
            if mac == vxlan.ANY_MAC
            else "the peer's frames go to the peer",
            vxlan.fdb(cable, "delete", mac, gateway),
            done=(mac, gateway) in there.fdb,
        )


def _up(cable: Cable, facts: Facts) -> Iterator[Step]:
    there, link = facts.overlay, facts.overlay.link
    step = partial(_made, Phase.UP)
    yield step(
        vxlan.set_link(cable, "up"),
        "from here on the overlay can send",
        vxlan.set_link(cable, "down"),
        done=link is not None and link.up,
    )
    yield step(
        vxlan.neighbour(cable, "add"),
        "the peer's VTEP needs no ARP",
        vxlan.neighbour(cable, "delete"),
        done=(str(cable.remote.vtep.ip), cable.remote.vtep_mac) in there.neighbours,
    )
    for subnet, vtep in vxlan.routes(cable):
        yield step(
            vxlan.route(cable, "add", subnet, vtep),
            f"a subnet of {cable.remote.cluster}",
            vxlan.route(cable, "delete", subnet, vtep),
            done=(subnet, vtep) in there.routes,
        )
    yield step(
        vxlan.rule("add"), f"look table {vxlan.TABLE} up", vxlan.rule("delete"), done=there.rule
    )


def _made(phase: Phase, argv: Argv, why: str, undo: Argv, *, done: bool) -> Step:
    return Step(phase=phase, argv=argv, why=why, undo=(undo,), not_needed="there" if done else "")


def _initiate(cable: Cable, facts: Facts) -> Iterator[Step]:
    for each in cable.connections:
        elsewhere = "" if cable.initiates else f"{cable.remote.cluster} initiates"
        there = each.name in facts.connections  # one that is new is deleted, which is enough
        yield Step(
            phase=Phase.INITIATE,
            argv=libreswan.initiate(each.name),
            why="negotiate",
            undo=(libreswan.terminate(each.name),) if there else (),
            not_needed="up" if facts.is_up(each.name) else elsewhere,
        )


def _wait(cable: Cable, facts: Facts, limit: float) -> Iterator[Step]:
    for each in cable.connections:
        yield Step(
            phase=Phase.WAIT,
            argv=("sh", "-c", _AWAIT, "sh", each.name, f"{limit:.0f}"),
            why="only a Child SA carries anything",
            not_needed="up" if facts.is_up(each.name) else "",
            limit=limit,
            waits_for=each.name,
        )
