"""Parsers of pluto's SAs: the lines of `--showstates` and `--trafficstatus`, of 4.0 to 5.4."""

import re
from collections.abc import Callable, Container, Iterator
from enum import StrEnum
from typing import NamedTuple

from msgspec import Struct

from cablectl.libreswan.lines import NUMBER, matches


class Ike(StrEnum):
    """The state of a connection's IKE SA; one of the connections that share it owns it."""

    NONE = "none"
    NEGOTIATING = "negotiating"
    ESTABLISHED = "established"


class ChildSa(Struct, frozen=True):
    """The two SAs of a connection, in and out."""

    serial: int  # pluto's state number
    added: int  # seconds since 1970
    bytes_in: int
    bytes_out: int
    spi_in: str = ""  # as the kernel prints it; empty if pluto didn't print it
    spi_out: str = ""
    rekey_in: int | None = None  # seconds; 0 if the time has passed
    newest: bool = False  # pluto sends with this one; another one may have a higher number


class _State(Struct, frozen=True):
    """A line of --showstates about an IKE SA or a Child SA."""

    serial: str
    name: str
    story: str
    rest: str  # timers and flags, each ending in a semicolon


class Negotiations(NamedTuple):
    """Names of connections, by what pluto says of them."""

    up: frozenset[str]  # with a Child SA, also in the kernel
    under_way: frozenset[str]  # of which pluto negotiates
    asking: frozenset[str] = frozenset()  # of these, with a request of this end that waits
    unheard: frozenset[str] = frozenset()  # of these, those whose first request waits

    @property
    def heard(self) -> frozenset[str]:
        """The connections that both ends negotiate."""
        return self.under_way - self.unheard


# An instance has the peer's address after its number, maybe with subnets around it.
_STATE = rf'{NUMBER}#(?P<serial>\d{{1,19}}): "(?P<name>[^"]+)"(?:\[\d+\](?: [^ ",#;]+){{1,2}})?'
# 5.x says which part of ESP the NIC does, and every release tells the user of an IKEv1 peer.
_PLUTO_SA = (
    rf"{_STATE}(?:, username=[^,]*)?, type=ESP(?:\(nic-offload=\w+\))?,"
    r" add_time=(?P<added>\d{1,19}),"
)
# Pluto reads the byte counts from the kernel; without an SA in the kernel they are missing.
_TRAFFIC = rf"{_PLUTO_SA} inBytes=(?P<in>\d{{1,20}}), outBytes=(?P<out>\d{{1,20}}),"
# Up to 5.3: STATE_V2_… or ESTABLISHED_… (story). 5.4 prints the story alone, which may itself
# have parentheses. IKE over TCP has (tcp) after the port.
_STATE_TEXT = rf"{_STATE}:\d{{1,5}}(?:\(tcp\))? (?P<text>[^;]+);(?P<rest>.*)"
_NAME_AND_STORY = r"[A-Z][A-Z\d_]* \((?P<story>.*)\)"
_ESTABLISHED_IKE = "established IKE SA"
_STANDING_IKE = (_ESTABLISHED_IKE, "IKE SA established", "ISAKMP SA established")  # IKEv1 as well
_FIRST_REQUEST = "sent IKE_SA_INIT request"
_REQUESTED_CHILD = "sent CREATE_CHILD_SA request"
_OWN_REQUESTS = (_FIRST_REQUEST, "sent IKE_AUTH request", _REQUESTED_CHILD)
_ESTABLISHED_CHILD = ("established Child SA", "IPsec SA established")  # the latter up to 4.4
# A deleted state is listed until its exchange ends; ZOMBIE from 5.1 on.
_DELETED = ("deleted state", "STATE_IKESA_DEL", "STATE_CHILDSA_DEL")
_ENDED = (*_STANDING_IKE, *_ESTABLISHED_CHILD, *_DELETED)  # no negotiation is under way
_PARENT = r" (?:IKE SA |isakmp)#(\d{1,19});"  # isakmp# up to 4.5
_REKEY = r" (?:EVENT_)?(?:SA_)?(?:REKEY|REPLACE) in (-?\d{1,10})s;"  # EVENT_SA_ up to 4.4
_NEWEST = " newest;"
_SPIS = (
    rf"{_STATE}(?: used -?\d+s ago;)?"
    r" esp[.:](?P<out>[\da-f]{1,8})@\S+ esp[.:](?P<in>[\da-f]{1,8})@\S+ "
)


def parse_child_sas(status: str, traffic_status: str) -> dict[str, tuple[ChildSa, ...]]:
    """Return the Child SAs by the name of their connection, the newest last.

    `--trafficstatus` has the SAs and their byte counts.
    `--status` or `--showstates` has their SPIs and rekey times.
    """
    states = list(_states(status))
    rekeys = {
        (state.name, state.serial): max(0, min(map(int, seconds)))
        for state in states
        if (seconds := re.findall(_REKEY, state.rest))
    }
    newest = {(state.name, state.serial) for state in states if _NEWEST in state.rest}
    spis = {(line["name"], line["serial"]): line for line in matches(_SPIS, status)}
    sas: dict[str, tuple[ChildSa, ...]] = {}
    for line in matches(_TRAFFIC, traffic_status):
        name, key = line["name"], (line["name"], line["serial"])
        sa = ChildSa(
            serial=int(line["serial"]),
            added=int(line["added"]),
            bytes_in=int(line["in"]),
            bytes_out=int(line["out"]),
            spi_in=_spi(spis[key]["in"]) if key in spis else "",
            spi_out=_spi(spis[key]["out"]) if key in spis else "",
            rekey_in=rekeys.get(key),
            newest=key in newest,
        )
        others = (other for other in sas.get(name, ()) if other.serial != sa.serial)
        sas[name] = tuple(sorted((*others, sa), key=lambda child: (child.newest, child.serial)))
    return sas


def parse_ike(status: str) -> dict[str, Ike]:
    """Return the states of the IKE SAs, by the names of the connections that own them."""
    ike: dict[str, Ike] = {}
    for state in _states(status):
        if state.story == _ESTABLISHED_IKE:
            ike[state.name] = Ike.ESTABLISHED
        elif state.story not in _ENDED:
            ike.setdefault(state.name, Ike.NEGOTIATING)
    return ike


def parse_parents(status: str) -> dict[str, str]:
    """Return, by connection, which connection owns the IKE SA of its newest Child SA.

    Empty if that IKE SA no longer exists, or is deleted.
    """
    states = list(_states(status))
    owners = {state.serial: state.name for state in states if state.story in _STANDING_IKE}
    children = sorted(
        (int(state.serial), state.name, parent[1])
        for state in states
        if state.story in _ESTABLISHED_CHILD and (parent := re.search(_PARENT, state.rest))
    )
    return {name: owners.get(parent, "") for _, name, parent in children}


def parse_established(traffic_status: str) -> frozenset[str]:
    """Return the names of the connections that have a Child SA, also in the kernel."""
    return frozenset(parse_child_sas("", traffic_status))


def parse_negotiations(states: str, traffic_status: str) -> Negotiations:
    """Return what pluto has negotiated, and what is under way, by `--showstates`."""
    every = list(_states(states))

    def where(condition: Callable[[str], bool]) -> frozenset[str]:
        return frozenset(state.name for state in every if condition(state.story))

    return Negotiations(
        up=parse_established(traffic_status),
        under_way=where(lambda story: story not in _ENDED),
        asking=where(lambda story: story.startswith(_OWN_REQUESTS)),
        unheard=where(lambda story: story.startswith(_FIRST_REQUEST)),
    )


def parse_unanswered(states: str, names: Container[str]) -> tuple[int, ...]:
    """Return the state numbers of the IKE SAs of these connections, of `--showstates`.

    Only if a CREATE_CHILD_SA request of one of these connections waits for its answer.
    """
    own = [state for state in _states(states) if state.name in names]
    if not any(state.story.startswith(_REQUESTED_CHILD) for state in own):
        return ()
    return tuple(int(state.serial) for state in own if state.story in _STANDING_IKE)


def parse_serials(traffic_status: str) -> dict[str, tuple[int, ...]]:
    """Return the state numbers of pluto's Child SAs by connection, also of those without an SA."""
    serials: dict[str, set[int]] = {}
    for line in matches(_PLUTO_SA, traffic_status):
        serials.setdefault(line["name"], set()).add(int(line["serial"]))
    return {name: tuple(sorted(numbers)) for name, numbers in serials.items()}


def _states(status: str) -> Iterator[_State]:
    for line in matches(_STATE_TEXT, status):
        named = re.fullmatch(_NAME_AND_STORY, line["text"])
        story = named["story"] if named else line["text"]
        yield _State(line["serial"], line["name"], story, line["rest"])


def _spi(digits: str) -> str:
    return f"0x{digits:>08}"
