"""Cables and facts become the steps that bring IPsec up, from the guard to the Child SAs."""

from collections.abc import Collection, Container, Iterable, Iterator, Sequence
from functools import partial

from msgspec.structs import replace

from cablectl.facts import orientation
from cablectl.facts.host_facts import Credential, Facts, Pluto
from cablectl.libreswan import addconn, dialects, pluto_commands, whack
from cablectl.libreswan.authentication import authentication_of
from cablectl.libreswan.pluto import FORGOTTEN, SETTLED, LoadedConnection
from cablectl.linux import esp_offload, guard, guard_file, xfrm
from cablectl.model.argv import Argv
from cablectl.model.cable import Cable
from cablectl.model.connection import Connection
from cablectl.model.wishes import Offload
from cablectl.plan.steps import Change, Phase, Step

Pairs = Sequence[tuple[Cable, Facts]]

# A credential of cablectl's own, which is replaced by the file's.
_REPLACED = (
    Credential.EARLIER,
    Credential.OTHER_PPK,
    Credential.RENEWED,
    Credential.INCOMPLETE,
)
RETIRE_LIMIT = 5  # seconds; a pluto that is too busy for this is left alone
DAEMON_LIMIT = 60  # seconds to start the daemon or to load modules, also on a slow host

# $1 is the connection's name, $2 the limit in seconds.
_AWAIT = (
    'i=0; until ipsec whack --trafficstatus | grep -F "\\"$1\\"" | grep -qF "type=ESP";'
    " do [ $((i += 1)) -le $2 ] || exit 4; sleep 1; done"
)


def steps(pairs: Pairs, *, wait: bool, limit: float) -> Iterator[Step]:
    """Yield the steps in order; the last steps wait up to `limit` seconds for the Child SAs."""
    cable, facts = pairs[0]
    yield from _guard(pairs)
    yield from _pluto(facts)
    yield from _offload(cable, facts)
    yield from _secrets(pairs)
    reduced = list[tuple[Cable, Facts]]()  # as it is after the unwanted connections are unloaded
    for cable, facts in pairs:
        unwanted = _unwanted(cable, facts)
        # With an earlier address here, the peer connects anew as well.
        of_cable = replace(facts, made_here=False) if _has_moved(cable, facts) else facts
        reduced.append((cable, _without(of_cable, unwanted)))
        yield from _unload(cable, facts, unwanted)
        yield from _add(*reduced[-1])
    for phase in (_route, _initiate):
        for cable, facts in reduced:
            yield from phase(cable, facts)
    for cable, facts in reduced:
        if wait:
            yield from _wait(cable, facts, limit)
        yield from _retire(cable, facts)


def _without(facts: Facts, unwanted: dict[str, str]) -> Facts:
    """Return the facts without some connections."""
    if not unwanted:
        return facts
    kept = {name: loaded for name, loaded in facts.connections.items() if name not in unwanted}
    return replace(facts, connections=kept)


def _unload(cable: Cable, facts: Facts, unwanted: dict[str, str]) -> Iterator[Step]:
    # Before pluto hears that an address is gone: then it would leave policies behind.
    phase = Phase.UNLOAD if _has_moved(cable, facts) else Phase.ADD
    step = partial(Step, phase=phase, kind=Change.REMOVE, cable=cable.id)
    for name, why in unwanted.items():
        yield step(argv=whack.delete(name), why=why)
    for policy in orientation.left_policies(cable, facts):
        if policy not in xfrm.policies_of(cable.connections):
            yield step(argv=xfrm.delete_policy(policy), why="pluto has left it in the kernel")


def _guard(pairs: Pairs) -> Iterator[Step]:
    """Load the tables: one table for cables that share a device, else one table for each cable."""
    tables = {guard.name(cable): (cable, facts) for cable, facts in pairs}
    for cable, facts in tables.values():
        loaded, only_cable = facts.guard, "" if cable.shares_device else cable.id
        if not cable.guarded:
            yield Step(
                phase=Phase.GUARD,
                argv=guard_file.remove(cable),
                why="guard: false, so a watcher no longer keeps the guard",
                kind=Change.REMOVE,
                not_needed="" if facts.guard_watched else "guard: false",
                cable=only_cable,
            )
            yield Step(
                phase=Phase.GUARD,
                argv=guard.remove(cable),
                why="guard: false",
                undo=(guard.load(cable),),
                kind=Change.REMOVE,
                not_needed="" if loaded else "guard: false",
                cable=only_cable,
            )
            continue
        yield Step(
            phase=Phase.GUARD,
            argv=guard.load(cable, loaded),
            why=f"nftables drops packets without IPsec (table {guard.name(cable)})",
            undo=() if loaded else (guard.remove(cable),),
            kind=Change.ALTER if loaded else Change.ADD,
            not_needed="loaded" if guard.is_intact(cable, loaded) else "",
            cable=only_cable,
        )


def _pluto(facts: Facts) -> Iterator[Step]:
    running = facts.pluto is Pluto.RUNNING
    yield Step(
        phase=Phase.PLUTO,
        argv=("systemctl", "start", "ipsec"),
        why="start the daemon as the host does it",
        undo=(("systemctl", "stop", "ipsec"),),
        not_needed="pluto is running" if running else "",
        limit=DAEMON_LIMIT,
    )


def _offload(cable: Cable, facts: Facts) -> Iterator[Step]:
    """Load the kernel's modules; Libreswan's own command doesn't load the module for offload."""
    names = esp_offload.modules(cable.local.address.version)
    off = "offload: off" if cable.ipsec.offload is Offload.OFF else ""
    if dialects.dialect(facts.libreswan).stack_manager:
        loaded = "" if set(names[:-1]) & set(facts.to_load) else "the modules are loaded"
        yield Step(
            phase=Phase.OFFLOAD,
            argv=("pidof", "pluto"),
            why="the next command flushes all IPsec policies if pluto isn't running",
            not_needed=off or loaded,
        )
        yield Step(
            phase=Phase.OFFLOAD,
            argv=pluto_commands.STACK_MANAGER,
            why="the kernel's IPsec modules; they stay loaded afterwards",
            not_needed=off or loaded,
            limit=DAEMON_LIMIT,
        )
        names = names[-1:]
    missing = tuple(name for name in names if name in facts.to_load)
    yield Step(
        phase=Phase.OFFLOAD,
        argv=("modprobe", "--all", *(missing or names)),
        why="the kernel's module for offload; it stays loaded afterwards",
        not_needed=off or ("" if missing else "no loadable module is missing"),
        limit=DAEMON_LIMIT,
    )


def _all_loaded(cable: Cable, facts: Facts) -> bool:
    return len(facts.loaded(cable)) == len(cable.connections)


def _secrets(pairs: Pairs) -> Iterator[Step]:
    for cable, facts in pairs:
        authentication = authentication_of(cable.ipsec)
        is_ours = facts.credential in _REPLACED
        yield Step(
            phase=Phase.SECRET,
            argv=authentication.install(cable),
            why=f"{authentication.place(cable)}, mode 0600",
            undo=() if is_ours else authentication.remove(cable.id),
            kind=Change.ALTER if is_ours else Change.ADD,
            not_needed=_installed(cable) if facts.credential is Credential.SAME else "",
            limit=authentication.limit,
            cable=cable.id,
        )
    read = all(
        facts.credential is Credential.SAME
        and _all_loaded(cable, facts)
        # pluto may not know a new address yet
        and not orientation.unoriented(cable, facts)
        and not _has_moved(cable, facts)
        for cable, facts in pairs
    )
    installed = _installed(pairs[0][0]) if len(pairs) == 1 else "the secrets files are up to date"
    yield Step(
        phase=Phase.SECRET,
        argv=pluto_commands.LISTEN,
        why="pluto reads its secrets and this host's addresses again",
        not_needed=installed if read else "",
    )


def _has_moved(cable: Cable, facts: Facts) -> bool:
    """Tell whether a connection of the cable was loaded while this host had another address."""
    ends = (entry.selectors for entry in facts.loaded(cable).values())
    return facts.credential is Credential.EARLIER or any(
        end.local.host != str(cable.local.address) for end in ends if end
    )


def _installed(cable: Cable) -> str:
    return f"{authentication_of(cable.ipsec).place(cable)} is up to date"


def _unwanted(cable: Cable, facts: Facts) -> dict[str, str]:
    """Return the connections to unload, some of them to load again, each with the reason."""
    loaded = facts.loaded(cable)
    names = facts.outdated(cable)
    if facts.credential is Credential.RENEWED:
        return dict.fromkeys((*loaded, *names), "its certificate is a new one: load it again")
    gone = dict.fromkeys(
        (name for name in names if name not in loaded), "the file no longer has this connection"
    )
    if facts.silent:
        return dict.fromkeys(loaded, "nothing comes from the peer: load it again") | gone
    if facts.stuck:
        return dict.fromkeys(loaded, "pluto can't delete a Child SA too many: load it again") | gone
    if _flushed(cable, facts):
        why = "its policies were flushed, and pluto doesn't know: load it again"
        return dict.fromkeys(loaded, why) | gone
    if not cable.traps and any(entry.lost for entry in loaded.values()):
        # The peer hears of it by the deletion.
        why = "the kernel has lost its SAs, and pluto doesn't know: load it again"
        return dict.fromkeys(loaded, why) | gone
    if cable.initiates and not cable.traps and _trapped(loaded.values()):
        why = "pluto goes on with an earlier negotiation: load it again"
        return dict.fromkeys(loaded, why) | gone
    gone |= dict.fromkeys(
        (name for name in names if name in loaded), "the file describes it differently now"
    )
    if facts.credential is Credential.OTHER_PPK:
        why = "the PPK changed, and its SAs have keys of the old one: load it again"
        gone |= {name: why for name in loaded if name not in gone}
    # It has no policies and no SAs. Its offload may be that of an earlier file.
    gone |= {
        name: "pluto uses no interface for it: load it again"
        for name in orientation.unoriented(cable, facts)
        if name not in gone
    }
    gone |= {
        name: "the IKE SA of its Child SA is gone, so the peer dropped the Child SA: load it again"
        for name, entry in loaded.items()
        if name not in gone and entry.ike_of == ""
    }
    # pluto deletes the IKE SA with its connection, even if other connections use that IKE SA.
    return gone | {
        name: f"its Child SA uses the IKE SA of {entry.ike_of}, which is deleted: load it again"
        for name, entry in loaded.items()
        if name not in gone and entry.ike_of in gone
    }


def _trapped(loaded: Collection[LoadedConnection]) -> bool:
    """Tell whether pluto 4.x has kept trap policies of a cable whose Child SAs have all ended.

    It repeats its requests at times of its own then, which cross those of a new negotiation.
    """
    ended = not any(entry.up or entry.serials or entry.ike_of is not None for entry in loaded)
    return ended and any(entry.routed for entry in loaded)


def _flushed(cable: Cable, facts: Facts) -> bool:
    """Tell whether the kernel lacks policies that pluto believes to be installed.

    Then all connections of the cable are loaded again, since they share one IKE SA.
    """
    outdated = facts.outdated(cable)
    return any(
        loaded.routed and connection.routed and xfrm.policies(connection)[0] not in facts.policies
        for connection in cable.connections
        if connection.name not in outdated and (loaded := facts.connections.get(connection.name))
    )


def _add(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    add = addconn.add if cable.ppk else whack.add
    for connection in cable.connections:
        yield Step(
            phase=Phase.ADD,
            argv=add(cable, connection, facts.libreswan, nic_can=_nic_can(facts)),
            why=connection.protects,
            undo=(whack.delete(connection.name),),
            not_needed="loaded" if connection.name in loaded else "",
            cable=cable.id,
        )


def _route(cable: Cable, facts: Facts) -> Iterator[Step]:
    loaded = facts.loaded(cable)
    routed = [connection for connection in cable.connections if connection.routed]
    waits = "" if cable.traps else "without SAs the guard drops the packets"
    for connection in routed:
        yield Step(
            phase=Phase.ROUTE,
            argv=whack.route(connection.name),
            why="install trap policies: the kernel asks for SAs, and drops packets until then",
            # Deleting a new connection is enough. An old connection stays loaded, and --unroute
            # while a Child SA is up kills pluto 4.10 (docs/libreswan.md).
            undo=(whack.terminate(connection.name), whack.unroute(connection.name))
            if connection.name in loaded
            else (),
            not_needed="routed" if _routed(facts, connection) else waits,
            cable=cable.id,
        )
    for connection in routed:
        yield Step(
            phase=Phase.ROUTE,
            argv=xfrm.get_policy(xfrm.policies(connection)[0]),
            why="check the policy in the kernel: the exit code of whack proves nothing",
            not_needed="installed" if _routed(facts, connection) else waits,
            cable=cable.id,
        )


def _nic_can(facts: Facts) -> bool:
    return facts.nic is not None and facts.nic.can is True


def _routed(facts: Facts, connection: Connection) -> bool:
    loaded = facts.connections.get(connection.name)
    return loaded is not None and loaded.routed and xfrm.policies(connection)[0] in facts.policies


def _initiate(cable: Cable, facts: Facts) -> Iterator[Step]:
    elsewhere = "" if cable.initiates or facts.silent else f"{cable.remote.cluster} initiates"
    for connection in cable.connections:
        loaded_before = connection.name in facts.connections  # deleting a new connection is enough
        yield Step(
            phase=Phase.INITIATE,
            argv=whack.initiate(connection.name),
            why="negotiate",
            undo=(whack.terminate(connection.name),) if loaded_before else (),
            not_needed="up" if facts.is_up(connection.name) else elsewhere,
            cable=cable.id,
        )


def _wait(cable: Cable, facts: Facts, limit: float) -> Iterator[Step]:
    for connection in cable.connections:
        yield Step(
            phase=Phase.WAIT,
            argv=("sh", "-c", _AWAIT, "sh", connection.name, f"{limit:.0f}"),
            why="only a Child SA carries traffic",
            not_needed="up" if facts.is_up(connection.name) else "",
            limit=limit,
            waits_for=connection.name,
            can_ask=connection.routed,
            cable=cable.id,
        )


def until_settled(
    cables: Iterable[Cable], facts: Iterable[Facts], retired: Container[Argv] = ()
) -> float:
    """Return the seconds until the Child SAs that are too many may go; 0 if there are none.

    Those that these commands have deleted don't count.
    """
    left = (
        _patience(cable) - loaded.age
        for cable, of_cable in zip(cables, facts, strict=True)
        for loaded in of_cable.loaded(cable).values()
        if any(whack.retire(serial) not in retired for serial in loaded.superseded(0))
    )
    return max((0, *left))


def _patience(cable: Cable) -> float:
    """Return the seconds after which this end deletes the Child SAs that are too many."""
    return SETTLED if cable.begins else FORGOTTEN


def _retire(cable: Cable, facts: Facts) -> Iterator[Step]:
    """Delete the Child SAs that the kernel has lost, and duplicates.

    pluto keeps them, and so does the peer. If both ends deleted duplicates at the same time, each
    might delete what the other one uses, so the end that waits does it later.
    """
    for loaded in facts.loaded(cable).values():
        lost = set(loaded.serials) - {sa.serial for sa in loaded.child_sas}
        why = dict.fromkeys(sorted(lost), "the kernel has lost this Child SA; the peer learns it")
        why |= dict.fromkeys(
            loaded.superseded(_patience(cable)), "the connection has a newer Child SA"
        )
        for serial, reason in why.items():
            yield Step(
                phase=Phase.RETIRE,
                argv=whack.retire(serial),
                why=reason,
                kind=Change.REMOVE,
                limit=RETIRE_LIMIT,
                cable=cable.id,
            )
