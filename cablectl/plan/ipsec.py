"""Cables and facts → the steps that bring IPsec up: guard, daemon, secret, connections, SAs."""

from collections.abc import Iterator, Sequence

from msgspec.structs import replace

from cablectl.facts.host_facts import Credential, Facts, Pluto
from cablectl.libreswan import dialects, pluto_commands, whack
from cablectl.libreswan.authentication import authentication_of
from cablectl.linux import esp_offload, guard, xfrm
from cablectl.model.cable import Cable, Connection
from cablectl.model.wishes import Offload
from cablectl.plan.steps import Change, Phase, Step

Pairs = Sequence[tuple[Cable, Facts]]

DAEMON_LIMIT = 60  # seconds to start the daemon, or to load two dozen modules on a slow host

# $1 is the connection's name, $2 the limit in seconds.
_AWAIT = (
    'i=0; until ipsec whack --trafficstatus | grep -F "\\"$1\\"" | grep -qF "type=ESP";'
    " do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done"
)


def steps(pairs: Pairs, *, wait: bool, limit: float) -> Iterator[Step]:
    """Yield the steps, in order; the last ones wait for the Child SAs, for `limit` seconds."""
    (first, its_facts), *_ = pairs
    yield from _guard(pairs)
    yield from _pluto(first, its_facts)
    yield from _secrets(pairs)
    unwanted = [_unwanted(cable, facts) for cable, facts in pairs]
    left = [
        (cable, _without(facts, names))
        for (cable, facts), names in zip(pairs, unwanted, strict=True)
    ]
    for (cable, facts), names in zip(left, unwanted, strict=True):
        yield from _unload(cable, names)
        yield from _add(cable, facts)
    for each in (_route, _initiate):
        for cable, facts in left:
            yield from each(cable, facts)
    for cable, facts in left if wait else ():
        yield from _wait(cable, facts, limit)


def _without(facts: Facts, names: dict[str, str]) -> Facts:
    if not names:
        return facts
    kept = {name: each for name, each in facts.connections.items() if name not in names}
    return replace(facts, connections=kept)


def _unload(cable: Cable, names: dict[str, str]) -> Iterator[Step]:
    for name, why in names.items():
        yield Step(
            phase=Phase.ADD,
            argv=whack.delete(name),
            why=why,
            kind=Change.REMOVE,
            cable=cable.id,
        )


def _guard(pairs: Pairs) -> Iterator[Step]:
    """Load the tables: one for the cables that share a device, else one for each."""
    tables = {guard.name(cable): (cable, facts) for cable, facts in pairs}
    for cable, facts in tables.values():
        there, of = facts.guard, "" if cable.shares_device else cable.id
        if not cable.guarded:
            yield Step(
                phase=Phase.GUARD,
                argv=guard.remove(cable),
                why="guard: false",
                undo=(guard.load(cable),),
                kind=Change.REMOVE,
                not_needed="" if there else "guard: false",
                cable=of,
            )
            continue
        yield Step(
            phase=Phase.GUARD,
            argv=guard.load(cable),
            why=f"nftables drops what has no IPsec (table {guard.name(cable)})",
            undo=() if there else (guard.remove(cable),),
            kind=Change.ALTER if there else Change.ADD,
            not_needed="there" if guard.stands(cable, there) else "",
            cable=of,
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
    names = esp_offload.modules(cable.local.address.version)
    off = "offload: off" if cable.ipsec.offload is Offload.OFF else ""
    if dialects.dialect(facts.libreswan).stack_manager:
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
            argv=pluto_commands.STACK_MANAGER,
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


def _secrets(pairs: Pairs) -> Iterator[Step]:
    for cable, facts in pairs:
        authentication = authentication_of(cable.ipsec)
        yield Step(
            phase=Phase.SECRET,
            argv=authentication.install(cable),
            why=f"{authentication.place(cable)}, mode 0600",
            undo=authentication.remove(cable.id),
            not_needed=_secret_there(cable) if facts.credential is Credential.SAME else "",
            cable=cable.id,
        )
    read = all(
        facts.credential is Credential.SAME and _all_loaded(cable, facts) for cable, facts in pairs
    )
    there = _secret_there(pairs[0][0]) if len(pairs) == 1 else "the secrets are there"
    yield Step(
        phase=Phase.SECRET,
        argv=pluto_commands.LISTEN,
        why="pluto reads the secrets and its addresses again",
        not_needed=there if read else "",
    )


def _secret_there(cable: Cable) -> str:
    return f"{authentication_of(cable.ipsec).place(cable)} is there"


def _unwanted(cable: Cable, facts: Facts) -> dict[str, str]:
    """Return the connections that have to go, or to be loaded anew, each with the reason."""
    loaded = facts.loaded(cable)
    names = facts.outdated(cable)
    gone = dict.fromkeys(
        (name for name in names if name not in loaded), "the file has no such connection any more"
    )
    if _flushed(cable, facts):
        why = "somebody flushed the kernel's policies, and pluto doesn't know: load it anew"
        return dict.fromkeys(loaded, why) | gone
    gone |= dict.fromkeys(
        (name for name in names if name in loaded), "the file says something else of it now"
    )
    gone |= {
        name: "the IKE SA of its Child SA is gone, and the peer has let go of it: load it anew"
        for name, each in loaded.items()
        if name not in gone and each.ike_of == ""
    }
    # pluto deletes a connection's IKE SA with it, whoever else's Child SAs are of it.
    return gone | {
        name: f"its Child SA is of the IKE SA of {each.ike_of}, which goes: load it anew"
        for name, each in loaded.items()
        if name not in gone and each.ike_of in gone
    }


def _flushed(cable: Cable, facts: Facts) -> bool:
    """Tell whether pluto believes in policies that the kernel doesn't have.

    Then all connections are loaded anew: they share an IKE SA, and so what befalls one.
    """
    return any(
        loaded.routed and each.routed and xfrm.policies(each)[0] not in facts.policies
        for each in cable.connections
        if (loaded := facts.connections.get(each.name))
    )


def _add(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    for each in cable.connections:
        yield Step(
            phase=Phase.ADD,
            argv=whack.add(cable, each, facts.libreswan, nic_can=_nic_can(facts)),
            why=each.protects,
            undo=(whack.delete(each.name),),
            not_needed="loaded" if each.name in loaded else "",
            cable=cable.id,
        )


def _route(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    routed = [each for each in cable.connections if each.routed]
    for each in routed:
        yield Step(
            phase=Phase.ROUTE,
            argv=whack.route(each.name),
            why="have the kernel ask for SAs, or drop",
            # Deleting a connection that is new is enough. One that was there stays, and on 4.10 an
            # --unroute while a Child SA is up kills pluto: see docs/libreswan.md.
            undo=(whack.terminate(each.name), whack.unroute(each.name))
            if each.name in loaded
            else (),
            not_needed="routed" if _routed(facts, each) else "",
            cable=cable.id,
        )
    for each in routed:
        yield Step(
            phase=Phase.ROUTE,
            argv=xfrm.get_policy(xfrm.policies(each)[0]),
            why="whack's exit code proves nothing: see the policy in the kernel",
            not_needed="seen" if _routed(facts, each) else "",
            cable=cable.id,
        )


def _nic_can(facts: Facts) -> bool:
    return facts.nic is not None and facts.nic.can is True


def _routed(facts: Facts, connection: Connection) -> bool:
    loaded = facts.connections.get(connection.name)
    return loaded is not None and loaded.routed and xfrm.policies(connection)[0] in facts.policies


def _initiate(cable: Cable, facts: Facts) -> Iterator[Step]:
    for each in cable.connections:
        # A peer that believes that the cable is up doesn't initiate.
        ours = cable.initiates or (facts.made_here and each.routed)
        elsewhere = "" if ours else f"{cable.remote.cluster} initiates"
        there = each.name in facts.connections  # one that is new is deleted, which is enough
        yield Step(
            phase=Phase.INITIATE,
            argv=whack.initiate(each.name),
            why="negotiate",
            undo=(whack.terminate(each.name),) if there else (),
            not_needed="up" if facts.is_up(each.name) else elsewhere,
            cable=cable.id,
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
            cable=cable.id,
        )
