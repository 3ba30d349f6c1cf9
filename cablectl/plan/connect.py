"""Cable and facts → the plan that brings the cable up."""

from collections.abc import Iterator
from functools import partial

from cablectl import guard, libreswan, mtu, offload, overlay, pluto, secret, xfrm
from cablectl.cable import Cable, Connection
from cablectl.errors import CablectlError, HostNotReadyError, UsageError
from cablectl.facts import Facts, Pluto, Secret
from cablectl.libreswan import Argv
from cablectl.model import Encapsulation, Geneve, Mode, Offload, Overlay, Vxlan
from cablectl.overlay import network, vxlan
from cablectl.plan import WAIT_LIMIT, Action, Phase, Plan, Step

DAEMON_LIMIT = 60  # seconds to start the daemon, or to load two dozen modules on a slow host

# $1 is the connection's name, $2 the limit in seconds.
_AWAIT = (
    'i=0; until ipsec whack --trafficstatus | grep -F "\\"$1\\"" | grep -qF "type=ESP";'
    " do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done"
)


def plan(cable: Cable, facts: Facts, *, wait: bool = True, limit: float = WAIT_LIMIT) -> Plan:
    """Return the plan that brings the cable up from what the facts say is there.

    UsageError if the MTU asked for is too large, or Libreswan can't do what the file asks;
    HostNotReadyError if what is there isn't ours.
    """
    _refuse_unknown_algorithms(facts)
    for message, hint in facts.not_ready:
        raise HostNotReadyError(message, hint=hint)
    steps: list[Step] = []
    wanted = cable.overlay
    if cable.connections:
        _refuse_a_pluto_that_is_not_ready(cable, facts)
        _refuse_software(cable, facts)
        steps += [
            *_guard(cable, facts),
            *_pluto(cable, facts),
            *_secret(cable, facts),
            *_connections(cable, facts),
        ]
        steps += [*_initiate(cable, facts), *(_wait(cable, facts, limit) if wait else ())]
    if wanted:
        _refuse_a_device_that_is_not_ours(cable, facts, wanted)
        steps += _overlay(cable, facts, wanted, overlay_mtu(cable, facts, wanted))
        steps += _up(cable, facts, wanted)
    return Plan(
        action=Action.CONNECT,
        cable=cable,
        facts=facts,
        steps=tuple(steps),
        warnings=tuple(_warnings(cable, facts)),
    )


def overlay_mtu(cable: Cable, facts: Facts, wanted: Overlay) -> int:
    """Return the device's MTU in bytes: the file's, or the largest that fits the path."""
    version, headers = cable.local.address.version, overlay.headers(wanted)
    if cable.mode is Mode.NONE:
        largest = mtu.clear(facts.path_mtu, headers, version=version)
    else:
        largest = mtu.protected(
            facts.path_mtu,
            headers,
            version=version,
            encapsulated=cable.encapsulation is not Encapsulation.NO,
            esp=cable.ipsec.esp,
        )
    asked = wanted.mtu
    if asked and asked > largest:
        raise UsageError(
            f"{wanted.kind}.mtu: {asked} is too large by {asked - largest}"
            f" for a path of {facts.path_mtu} bytes",
            hint=f"at most {largest}, or auto",
        )
    return asked or largest


def _refuse_unknown_algorithms(facts: Facts) -> None:
    if facts.unknown_algorithms:
        raise UsageError(
            f"ipsec: Libreswan {facts.libreswan} doesn't take the file's algorithms:"
            f" {facts.unknown_algorithms}",
            hint="correct ipsec.esp or ipsec.pfs_group; see `ipsec algparse`",
        )


def _refuse_a_pluto_that_is_not_ready(cable: Cable, facts: Facts) -> None:
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
    wanted = cable.overlay
    if isinstance(wanted, Vxlan) and wanted.port != vxlan.port(wanted) != facts.service_port:
        raise HostNotReadyError(
            f"vxlan.port: this host's /etc/services doesn't call {vxlan.port(wanted)}/udp"
            f" {wanted.port}, and whack would refuse the name",
            hint=f"write port: {vxlan.port(wanted)}",
        )
    if facts.secret is Secret.OTHER:
        raise HostNotReadyError(f"{secret.path(cable)} holds another secret", hint=_AGAIN)
    for connection in cable.connections:
        loaded = facts.connections.get(connection.name)
        expected = pluto.selectors(connection)
        if loaded and loaded.selectors and not pluto.same(loaded.selectors, expected):
            raise HostNotReadyError(
                f"pluto has {connection.name} with other addresses or ports", hint=_AGAIN
            )


def _refuse_software(cable: Cable, facts: Facts) -> None:
    """Hold a cable to the NIC that its file asks for, before it is there and once it is."""
    asked = cable.ipsec.offload
    if asked not in offload.NEEDED:
        return
    if facts.nic and facts.nic.can is False:
        raise HostNotReadyError(
            f"ipsec.offload: {asked}, and {facts.nic.device} has no {offload.HARDWARE}",
            hint="see `ethtool -k`; offload: auto does without",
        )
    wanted = "packet" if asked is Offload.PACKET else "crypto"
    for sa in xfrm.sas_of(cable.connections, facts.policies, facts.sas):
        if sa.offload != wanted:
            raise CablectlError(
                f"ipsec.offload: {asked}, and the SA {sa.spi} to {sa.destination} is in"
                f" {sa.offload or 'software'}",
                hint="see `cablectl offload`; offload: auto does without",
            )


_AGAIN = "teardown with the file that it was made from, then connect"


def _refuse_a_device_that_is_not_ours(cable: Cable, facts: Facts, wanted: Overlay) -> None:
    link, ours = facts.overlay.link, str(cable.local.address)
    if link and not link.ours:
        raise HostNotReadyError(
            f"the device {wanted.device} exists and cablectl didn't make it",
            hint=f"name another one in {wanted.kind}.device, or remove it",
        )
    if link and not link.fits(cable, wanted):
        raise HostNotReadyError(
            f"the device {wanted.device} was made for another cable, port, VNI or key", hint=_AGAIN
        )
    if isinstance(wanted, Geneve) and facts.leaves_with not in ("", ours):
        raise HostNotReadyError(
            f"what this host sends to {cable.remote_host} leaves with the address"
            f" {facts.leaves_with}, which no policy of the cable protects",
            hint=f"give the route the source {ours}, or take overlay: vxlan",
        )


def _foreign_xfrm(cable: Cable, facts: Facts) -> bool:
    others = set(facts.sas) - set(xfrm.sas_of(cable.connections, facts.policies, facts.sas))
    return bool(others or facts.policies.keys() - xfrm.policies_of(cable.connections))


def _warnings(cable: Cable, facts: Facts) -> Iterator[str]:
    yield from facts.warnings
    if cable.guarded and facts.loaded(cable) and not guard.stands(cable, facts.guard):
        what = "changed" if facts.guard else "gone"
        yield f"somebody flushed the guard: table {guard.name(cable)} is {what}; it is loaded anew"
    if cable.mode is Mode.NONE:
        yield "mode: none: everything on the overlay travels in clear text"
    elif cable.ipsec.dpd is None and libreswan.dialect(facts.libreswan).dpd_action:
        yield (
            f"dpd: off on Libreswan {facts.libreswan}: pluto can abort when an IKE SA gets no"
            " answer; leave dpd out for the safe default"
        )
    if not cable.guarded and any(not each.routed for each in cable.connections):
        yield (
            f"as server this end catches nothing before {cable.remote.cluster} connects: until"
            " then packets between the subnets go wherever the routes lead them"
        )


def _guard(cable: Cable, facts: Facts) -> Iterator[Step]:
    there = facts.guard
    if not cable.guarded:
        yield Step(
            phase=Phase.GUARD,
            argv=guard.remove(cable),
            why="guard: false",
            undo=(guard.load(cable),),
            not_needed="" if there else "guard: false",
        )
        return
    yield Step(
        phase=Phase.GUARD,
        argv=guard.load(cable),
        why=f"nftables drops what has no IPsec (table {guard.name(cable)})",
        undo=() if there else (guard.remove(cable),),
        not_needed="there" if guard.stands(cable, there) else "",
    )


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
    yield from _offload(cable, facts)


def _offload(cable: Cable, facts: Facts) -> Iterator[Step]:
    """Load the kernel's modules; Libreswan's own way, where there is one, leaves out offload's."""
    names = offload.modules(cable.local.address.version)
    off = "offload: off" if cable.ipsec.offload is Offload.OFF else ""
    if libreswan.dialect(facts.libreswan).stack_manager:
        *basic, last = names
        loaded = "" if set(basic) & set(facts.to_load) else "the modules are loaded"
        yield Step(
            phase=Phase.OFFLOAD,
            argv=("pidof", "pluto"),
            why="the next command flushes all IPsec policies unless pluto is running",
            not_needed=off or loaded,
        )
        yield Step(
            phase=Phase.OFFLOAD,
            argv=libreswan.STACK_MANAGER,
            why="the kernel's IPsec; modules stay loaded afterwards",
            not_needed=off or loaded,
            limit=DAEMON_LIMIT,
        )
        names = (last,)
    missing = tuple(name for name in names if name in facts.to_load)
    yield Step(
        phase=Phase.OFFLOAD,
        argv=("modprobe", "--all", *(missing or names)),
        why="the kernel's part of offload; modules stay loaded afterwards",
        not_needed=off or ("" if missing else "nothing is missing that could be loaded"),
        limit=DAEMON_LIMIT,
    )


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
            argv=libreswan.add(cable, each, facts.libreswan, nic_can=_nic_can(facts)),
            why=_protects(each),
            undo=(libreswan.delete(each.name),),
            not_needed="loaded" if each.name in loaded else "",
        )
    routed = [each for each in cable.connections if each.routed]
    for each in routed:
        yield Step(
            phase=Phase.ROUTE,
            argv=libreswan.route(each.name),
            why="have the kernel ask for SAs, or drop",
            # Deleting a connection that is new is enough. One that was there stays, and on 4.10 an
            # --unroute while a Child SA is up kills pluto: see docs/libreswan.md.
            undo=(libreswan.terminate(each.name), libreswan.unroute(each.name))
            if each.name in loaded
            else (),
            not_needed="routed" if _routed(facts, each) else "",
        )
    for each in routed:
        yield Step(
            phase=Phase.ROUTE,
            argv=xfrm.get_policy(xfrm.policies(each)[0]),
            why="whack's exit code proves nothing: see the policy in the kernel",
            not_needed="seen" if _routed(facts, each) else "",
        )


def _nic_can(facts: Facts) -> bool:
    return facts.nic is not None and facts.nic.can is True


def _protects(connection: Connection) -> str:
    if connection.local.port:
        return "what the local VTEP receives"
    if connection.remote.port:
        return "what the local VTEP sends"
    return f"{connection.local.network} and {connection.remote.network}"


def _routed(facts: Facts, connection: Connection) -> bool:
    loaded = facts.connections.get(connection.name)
    return loaded is not None and loaded.routed and xfrm.policies(connection)[0] in facts.policies


def _overlay(cable: Cable, facts: Facts, wanted: Overlay, size: int) -> Iterator[Step]:
    """Make the device; what is put on one that is new goes with it, and needs no undo."""
    there, link = facts.overlay, facts.overlay.link
    step = partial(_made, Phase.OVERLAY)
    yield step(
        overlay.add_link(cable, wanted, size),
        f"the VTEP's device; {size} bytes fill the path's {facts.path_mtu}",
        network.delete_link(wanted),
        done=link is not None,
    )
    if link and link.mtu != size:
        undo = network.set_mtu(wanted, link.mtu)
        yield step(network.set_mtu(wanted, size), f"was {link.mtu}", undo, done=False)
    yield step(
        network.address(cable, wanted, "add"),
        "the VTEP's address",
        network.address(cable, wanted, "delete") if link else None,
        done=link is not None and str(cable.local_vtep) in link.addresses,
    )
    if isinstance(wanted, Vxlan):
        for mac, gateway in vxlan.fdb_entries(cable):
            yield step(
                vxlan.fdb(wanted, "append", mac, gateway),
                "broadcast and multicast go to the peer"
                if mac == vxlan.ANY_MAC
                else "the peer's frames go to the peer",
                vxlan.fdb(wanted, "delete", mac, gateway) if link else None,
                done=(mac, gateway) in there.fdb,
            )
    for path, value in network.settings(cable, wanted):
        yield Step(
            phase=Phase.OVERLAY,
            argv=network.set_setting(path, value),
            why=f"the device's {path.rpartition('/')[2]} is {value}; it goes with the device",
            not_needed="set" if (path, value) in there.settings else "",
        )


def _up(cable: Cable, facts: Facts, wanted: Overlay) -> Iterator[Step]:
    there, link = facts.overlay, facts.overlay.link
    step = partial(_made, Phase.UP)
    yield step(
        network.set_link(wanted, "up"),
        "from here on the overlay can send",
        network.set_link(wanted, "down"),
        done=link is not None and link.up,
    )
    if overlay.has_macs(wanted):
        yield step(
            # Not add: traffic that waits for the device has the kernel make an incomplete one.
            network.neighbour(cable, wanted, "replace"),
            "the peer's VTEP needs no ARP",
            network.neighbour(cable, wanted, "delete"),
            done=(str(cable.remote_vtep.ip), cable.remote.mac) in there.neighbours,
        )
    old = {route[:2]: route for route in there.routes}
    for route in network.routes(cable, facts.source):
        before = old.get(route[:2])
        yield step(
            network.route(wanted, "replace" if before else "add", route),
            f"a subnet of {cable.remote.cluster}",
            network.route(wanted, *("replace", before) if before else ("delete", route)),
            done=before == route,
        )
    yield step(
        network.rule(cable, "add"),
        f"look table {network.TABLE} up",
        network.rule(cable, "delete"),
        done=there.rule,
    )


def _made(phase: Phase, argv: Argv, why: str, undo: Argv | None, *, done: bool) -> Step:
    return Step(
        phase=phase,
        argv=argv,
        why=why,
        undo=(undo,) if undo else (),
        not_needed="there" if done else "",
    )


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
            can_ask=each.routed,
        )
