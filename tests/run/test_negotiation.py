"""Which end negotiates anew, and when; and what is done for a cable while others still wait."""

import time
from collections.abc import Sequence
from itertools import pairwise

import pytest
from msgspec.structs import replace

from cablectl.errors import TimeLimitError
from cablectl.facts.host_facts import OverlayFacts, StalePeer
from cablectl.host import daemon
from cablectl.host.pluto_log import PlutoLog
from cablectl.libreswan.pluto import Negotiations
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.plan.calls import staged
from cablectl.plan.steps import Phase, Step
from cablectl.run import negotiation, waiting
from cablectl.run.negotiation import (
    DROPPED,
    FOR_EACH,
    JITTER,
    REFUSED,
    REFUSED_FOR_EACH,
    STUCK,
    STUCK_FOR_EACH,
    UNHEARD,
    Timekeeper,
)
from tests.support.documents import shaped
from tests.support.examples import load
from tests.support.plans import BLANK

NOTHING = Negotiations(frozenset(), frozenset())


def due_at(cable: Cable, looks: int, found: Negotiations) -> list[int]:
    """Return the looks after which the cable is negotiated anew."""
    return asked_at(Timekeeper([cable]), cable, looks, found)


def asked_at(
    keeper: Timekeeper, cable: Cable, looks: int, found: Negotiations, *, hurry: bool = False
) -> list[int]:
    times = list[int]()
    for look in range(looks):
        if cable in keeper.due({cable.id}, found, hurry=hurry):
            keeper.asked(cable)
            times.append(look)
    return times


def under_way(cable: Cable) -> Negotiations:
    return Negotiations(frozenset(), frozenset({cable.connections[0].name}))


def test_the_end_that_begins_asks_again_when_it_was_refused() -> None:
    """Pluto has no state any more; each time the peer gets twice as long."""
    times = due_at(load("quickstart", "cluster2"), 100, NOTHING)
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert times[0] == REFUSED
    assert apart[:3] == [2 * REFUSED + 1, 4 * REFUSED + 1, 4 * REFUSED + 1]


def test_the_end_that_begins_asks_soon_if_the_peer_ended_the_negotiation() -> None:
    """The peer applies the changed file a moment later, and its refusals end with that."""
    begins, waiting_end = load("quickstart", "cluster2"), load("quickstart", "cluster1")
    looks_until_due = []
    for cable in (begins, waiting_end):
        keeper = Timekeeper([cable])
        assert not any(keeper.due({cable.id}, under_way(cable)) for _ in range(10))
        due = (look for look in range(100) if keeper.due({cable.id}, NOTHING))
        looks_until_due.append(next(due))
    assert looks_until_due[0] == DROPPED
    assert looks_until_due[1] >= UNHEARD


def test_the_other_end_asks_when_it_hears_nothing() -> None:
    """Its peer may take the cable for up. Jitter keeps the ends of a mesh from asking at once."""
    cable = load("quickstart", "cluster1")
    firsts = {due_at(cable, 100, NOTHING)[0] for _ in range(50)}
    least = UNHEARD + FOR_EACH
    assert firsts <= set(range(least, least + JITTER + 1))
    assert len(firsts) > 4


def test_when_half_of_the_time_is_over_the_other_end_asks_once() -> None:
    cable = load("quickstart", "cluster1")
    times = asked_at(Timekeeper([cable]), cable, UNHEARD + 6, NOTHING, hurry=True)
    assert len(times) == 1
    assert REFUSED <= times[0] <= REFUSED + JITTER
    keeper = Timekeeper([cable])
    assert not any(keeper.due({cable.id}, under_way(cable), hurry=True) for _ in range(500))


def test_a_negotiation_that_is_under_way_is_left_alone_for_long() -> None:
    """The end that waits never breaks it off."""
    begins, waiting_end = load("quickstart", "cluster2"), load("quickstart", "cluster1")
    assert due_at(begins, STUCK + 5, under_way(begins)) == [STUCK + STUCK_FOR_EACH]
    assert due_at(waiting_end, 1200, under_way(waiting_end)) == []


def test_a_first_request_without_an_answer_is_repeated_by_the_end_that_begins() -> None:
    """pluto 4.10 that was refused before doesn't hear the answers to its repetitions."""
    begins, waiting_end = load("quickstart", "cluster2"), load("quickstart", "cluster1")
    name = frozenset({begins.connections[0].name, waiting_end.connections[0].name})
    found = Negotiations(frozenset(), name, asking=name, unheard=name)
    firsts = {due_at(begins, 60, found)[0] for _ in range(50)}
    least = round(REFUSED + REFUSED_FOR_EACH)
    assert firsts <= set(range(least, least + JITTER + 1))
    assert min(due_at(waiting_end, 100, found)) >= UNHEARD + FOR_EACH


def test_after_a_change_the_end_that_begins_asks_soon_once() -> None:
    """The peer applies its changed file a moment later: it refuses, or forgets what was begun."""
    begins, waiting_end = load("quickstart", "cluster2"), load("quickstart", "cluster1")
    name = frozenset({begins.connections[0].name, waiting_end.connections[0].name})
    forgotten = Negotiations(frozenset(), name, asking=name)
    unheard = Negotiations(frozenset(), name, asking=name, unheard=name)
    soon = round(DROPPED + REFUSED_FOR_EACH)
    for found, first in ((NOTHING, soon), (forgotten, soon + 1), (unheard, soon)):
        times = asked_at(Timekeeper([begins], {begins.id}), begins, 100, found)
        assert times[0] == first
        assert times[1] > first + REFUSED
        keeper = Timekeeper([waiting_end], {waiting_end.id})
        assert not any(keeper.due({waiting_end.id}, found) for _ in range(UNHEARD))


def test_progress_after_a_change_is_left_alone() -> None:
    """Each look finds another request: of the IKE SA, of one Child SA, of the other one."""
    cable = load("quickstart", "cluster2")
    first, second = (frozenset({connection.name}) for connection in cable.connections)
    requests = [first, frozenset[str](), second] * 8
    keeper = Timekeeper([cable], {cable.id})
    for each in requests:
        assert not keeper.due({cable.id}, Negotiations(frozenset(), cable.names, asking=each))


def test_a_cable_that_is_due_stays_so_until_it_is_asked() -> None:
    """The peer may have begun meanwhile: then nobody asks, and it's no attempt."""
    cable = load("quickstart", "cluster2")
    keeper = Timekeeper([cable], {cable.id})
    soon = round(DROPPED + REFUSED_FOR_EACH)
    due = [bool(keeper.due({cable.id}, NOTHING)) for _ in range(soon + 3)]
    assert due == [False] * soon + [True] * 3


def test_the_end_that_waits_ends_a_request_of_its_own() -> None:
    cable = load("quickstart", "cluster1")
    name = frozenset({cable.connections[0].name})
    assert STUCK + STUCK_FOR_EACH in due_at(
        cable, STUCK + 40, Negotiations(name, name, asking=name)
    )


def test_a_look_after_a_pause_counts_for_several() -> None:
    """But not the first one of a cable, nor one that finds that the peer is away."""
    cable = load("quickstart", "cluster2")
    away = Negotiations(frozenset(), cable.names, asking=cable.names, unheard=cable.names)
    for found, least, most in ((NOTHING, 1, 1), (away, REFUSED, REFUSED + JITTER + 1)):
        keeper = Timekeeper([cable])
        looks = range(REFUSED + JITTER + 2)
        first = next(look for look in looks if keeper.due({cable.id}, found, looks=60))
        assert least <= first <= most


def test_a_watch_gives_later_attempts_more_and_more_time() -> None:
    cable = load("quickstart", "cluster2")
    times = asked_at(Timekeeper([cable], most=64), cable, 600, NOTHING)
    apart = [later - earlier for earlier, later in pairwise(times)]
    assert apart[:6] == [REFUSED * 2**tries + 1 for tries in range(1, 7)]


def test_many_cables_get_more_time() -> None:
    cables = [replace(load("quickstart", "cluster2"), twins={f"{i}": i}) for i in range(40)]
    keeper = Timekeeper(cables)
    found = under_way(cables[0])
    everyone = {cable.id for cable in cables}
    looks = range(STUCK + 50 * STUCK_FOR_EACH)
    first = next(look for look in looks if cables[0] in keeper.due(everyone, found))
    assert first == STUCK + 40 * STUCK_FOR_EACH


def test_a_cable_that_no_longer_waits_is_not_due() -> None:
    cable = load("quickstart", "cluster2")
    keeper = Timekeeper([cable])
    assert not any(keeper.due(set(), NOTHING) for _ in range(1000))


def test_a_pluto_that_is_too_busy_to_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Many negotiations at once keep it from answering in time."""
    monkeypatch.setattr(waiting, "POLL", 0.01)
    cable = load("quickstart", "cluster2")
    looks: list[Negotiations | None] = [None, None, Negotiations(cable.names, cable.names)]

    def look() -> Negotiations:
        found = looks.pop(0)
        if found is None:
            raise TimeLimitError("no answer")
        return found

    monkeypatch.setattr(daemon, "negotiations", look)
    assert waiting_for(cable, waits(cable), []).errors() == {}
    assert looks == []


def test_a_server_whose_client_may_be_anywhere_never_asks() -> None:
    server = shaped("tunnel v4 server", "cluster2")
    assert not all(connection.routed for connection in server.connections)
    assert due_at(server, 600, NOTHING) == []


def waits(cable: Cable, limit: float = 5) -> list[Step]:
    return [
        Step(
            phase=Phase.WAIT,
            argv=("true",),
            why="",
            cable=cable.id,
            limit=limit,
            waits_for=connection.name,
            can_ask=False,
        )
        for connection in cable.connections
    ]


def waiting_for(
    cable: Cable, steps: Sequence[Step], begun: list[str], *changed: str
) -> waiting.Waiting:
    """Return what waits; `begun` gets the id of the cable each time that it's begun anew."""
    return waiting.Waiting(
        steps,
        time.monotonic(),
        lambda *_: None,
        PlutoLog(),
        {cable.id: cable},
        lambda each, _: begun.append(each.id),
        changed=changed,
    )


@pytest.mark.parametrize("changed", [False, True])
def test_each_attempt_gets_its_time(monkeypatch: pytest.MonkeyPatch, changed: bool) -> None:
    """A cable that is due stays so until it is asked; after a change it is asked soon."""
    monkeypatch.setattr(waiting, "POLL", 0.001)
    cable, begun = load("quickstart", "cluster2"), list[str]()
    looks = list[int]()

    def look() -> Negotiations:
        looks.append(len(begun))
        return NOTHING if len(looks) < 3 * REFUSED else Negotiations(cable.names, frozenset())

    monkeypatch.setattr(daemon, "negotiations", look)
    ids = (cable.id,) if changed else ()
    assert waiting_for(cable, waits(cable), begun, *ids).errors() == {}
    assert len(begun) == 1
    assert (looks.index(1) < REFUSED) == changed


def test_cables_come_as_their_child_sas_stand(
    cables: tuple[Cable, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that had them before comes first; one that stays silent holds up no other one."""
    monkeypatch.setattr(waiting, "POLL", 0.01)
    monkeypatch.setattr(negotiation, "REFUSED", 1000)
    silent, quick = cables
    there = replace(quick, remote=replace(quick.remote, cluster="there"))
    looks = iter(
        [
            NOTHING,
            Negotiations(frozenset({quick.connections[0].name}), frozenset()),
            Negotiations(quick.names, frozenset()),
        ]
    )
    monkeypatch.setattr(
        daemon,
        "negotiations",
        lambda *_: next(looks, Negotiations(quick.names, frozenset())),
    )
    shown = list[int]()

    def show(left: Sequence[Step], _: float) -> None:
        shown.append(len(left))

    steps = [step for cable in (silent, quick) for step in waits(cable, 0.2)]
    made = waiting.Waiting(
        steps,
        time.monotonic(),
        show,
        PlutoLog(),
        {cable.id: cable for cable in (silent, quick, there)},
        lambda *_: None,
    )
    came = [(ready, set(errors)) for ready, errors in made.as_they_come()]
    assert came == [
        (frozenset({there.id}), set()),
        (frozenset({quick.id}), set()),
        (frozenset(), {silent.id}),
    ]
    assert shown[:2] == [4, 3]
    assert shown[-1] == 2


def test_a_cable_that_is_begun_anew_waits_for_all_its_connections(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One of them was up, and is loaded again with the other one."""
    monkeypatch.setattr(waiting, "POLL", 0.01)
    cable = load("quickstart", "cluster2")
    first, second = (connection.name for connection in cable.connections)
    monkeypatch.setattr(negotiation, "REFUSED", 0)
    looks = [
        Negotiations(frozenset({second}), frozenset()),
        Negotiations(frozenset({second}), frozenset()),
        Negotiations(frozenset({first}), frozenset()),
        Negotiations(frozenset({first}), frozenset()),
        Negotiations(cable.names, frozenset()),
    ]
    monkeypatch.setattr(daemon, "negotiations", lambda: looks.pop(0))
    begun = list[str]()
    waiting_for(cable, waits(cable)[:1], begun).errors()
    assert begun[0] == cable.id
    assert looks == []


def test_a_cable_with_a_request_that_waits_is_not_ready(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer would bring a Child SA too many. When the time is over, the cable is up."""
    monkeypatch.setattr(waiting, "POLL", 0.01)
    cable = load("quickstart", "cluster2")
    up, asking = cable.names, frozenset({cable.connections[0].name})
    looks = [Negotiations(up, asking, asking=asking)] * 3 + [Negotiations(up, frozenset())]
    monkeypatch.setattr(daemon, "negotiations", lambda: looks.pop(0))
    assert waiting_for(cable, waits(cable), []).errors() == {}
    assert looks == []
    monkeypatch.setattr(daemon, "negotiations", lambda: Negotiations(up, asking, asking=asking))
    came = list(waiting_for(cable, waits(cable, 0.1), []).as_they_come())
    assert came[-1] == (frozenset({cable.id}), {})


def test_the_peer_that_has_begun_meanwhile_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a host that is busy, a decision may be late."""
    monkeypatch.setattr(waiting, "POLL", 0.01)
    monkeypatch.setattr(negotiation, "REFUSED", 0)
    cable = load("quickstart", "cluster2")
    looks = [
        NOTHING,
        under_way(cable),
        Negotiations(cable.names, frozenset()),
    ]
    monkeypatch.setattr(daemon, "negotiations", lambda: looks.pop(0))
    begun = list[str]()
    waiting_for(cable, waits(cable), begun).errors()
    assert begun == []
    assert looks == []


def test_each_cable_is_finished_alone_and_what_is_left_of_others_goes_last(
    cables: tuple[Cable, ...],
) -> None:
    """What all cables share is done with the first one."""
    one, other = cables
    gone = StalePeer(
        id="gone-172-18-0-99",
        gateway="172.18.0.99",
        fdb=frozenset({("02:ca:ac:12:00:63", "172.18.0.99")}),
        made_here=True,
    )
    overlay = OverlayFacts(stale_peers=(gone,))
    plan = connect_plan.plan(cables, (replace(BLANK, overlay=overlay), BLANK))
    before, finish = staged(plan)
    assert finish
    assert {step.cable for step in finish.last} == {gone.id}
    ran = [step for call in before for step in call.steps]
    ran += finish.waits
    for ids, shared in (({other.id}, True), ({one.id}, False)):
        steps = [step for call in finish.calls(ids, shared=shared) for step in call.steps]
        assert {step.cable for step in steps} == (ids | {""} if shared else ids)
        ran += steps
    ran += [step for call in finish.last_calls() for step in call.steps]
    assert len(ran) == len(plan.needed)
    assert {step.argv for step in ran} == {step.argv for step in plan.needed}
