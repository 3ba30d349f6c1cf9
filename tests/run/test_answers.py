"""Whether each peer answers an echo before connect says that all is well."""

from collections.abc import Iterator, Sequence
from typing import Self

import pytest
from msgspec.structs import replace

from cablectl.errors import TimeLimitError
from cablectl.host.echoes import Answer
from cablectl.model.cable import Cable
from cablectl.model.wishes import AnyAddress
from cablectl.run import answers
from tests.support.documents import shaped


class Peers:
    """Stands for the sockets: a peer answers the echo with the number that it is given."""

    def __init__(self, answering: dict[AnyAddress, int]) -> None:
        self.answering, self.sent = answering, list[tuple[AnyAddress, int]]()
        self.filenos = ()

    def __call__(self, versions: set[int]) -> Self:
        assert versions == {target.version for target in self.answering} or not self.answering
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def send(self, _: AnyAddress, target: AnyAddress, sequence: int) -> bool:
        self.sent.append((target, sequence))
        return True

    def receive(self) -> Iterator[Answer]:
        for target, sequence in self.sent:
            if sequence >= self.answering.get(target, 0x10000):
                yield Answer(target, sequence, 0.01)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "EVERY", 0.02)


def target_of(cable: Cable) -> AnyAddress:
    assert cable.echo_ends
    return cable.echo_ends[1]


def test_each_peer_is_asked_until_it_answers(
    cables: tuple[Cable, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own connect may end a little later."""
    first, second = map(target_of, cables)
    peers, shown = Peers({first: 0, second: 3}), list[tuple[Sequence[str], int]]()
    monkeypatch.setattr(answers, "Echoes", peers)

    def show(left: Sequence[str], total: int, _: float) -> None:
        shown.append((left, total))

    assert answers.silent(cables, 5, show) == {}
    assert [sequence for target, sequence in peers.sent if target == first] == [0]
    assert [sequence for target, sequence in peers.sent if target == second] == [0, 1, 2, 3]
    assert shown == [([cables[1].id], 2)] * 3


def test_a_peer_that_never_answers(
    cables: tuple[Cable, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = cables
    monkeypatch.setattr(answers, "Echoes", Peers({target_of(first): 0}))
    errors = answers.silent(cables, 0.1, lambda *_: None)
    assert set(errors) == {second.id}
    error = errors[second.id]
    assert isinstance(error, TimeLimitError)
    assert f"{target_of(second)} answers no echo" in error.message
    assert "health: off" in error.hint


def test_what_has_no_echo_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clear text needs no peer yet; between subnets the file may name no address."""
    monkeypatch.setattr(answers, "Echoes", None)
    cables = [
        shaped("none vxlan v4", "cluster1"),
        shaped("tunnel v4", "cluster1"),
        replace(shaped("transport vxlan v4", "cluster1"), health=None),
    ]
    assert answers.silent(cables, 5, lambda *_: None) == {}
