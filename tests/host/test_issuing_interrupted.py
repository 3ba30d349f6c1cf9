"""Ctrl-C at every point of a command of the authority: nothing is half, and nothing is lost."""

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cablectl.host import authority_files, issuing, keys, new_files
from tests.support.authority_place import CLUSTERS, FILES, NEXT, PASSPHRASE, Place
from tests.support.certificates import DAY, NOW


@pytest.fixture
def this(tmp_path: Path) -> Place:
    return Place(tmp_path)


def interrupt(patched: pytest.MonkeyPatch, where: object, name: str, after: int) -> None:
    """Let Ctrl-C come instead of a call of a function, after some calls of it."""
    real, calls = getattr(where, name), iter(range(after))

    def stand_in(*args: object, **options: object) -> object:
        if next(calls, None) is None:
            raise KeyboardInterrupt
        return real(*args, **options)

    patched.setattr(where, name, stand_in)


POINTS: list[tuple[object, str]] = [
    (new_files, "write"),
    (Path, "rename"),
    (keys, "place"),
    (os, "link"),
]


def interrupted(
    monkeypatch: pytest.MonkeyPatch, begin: Callable[[], Callable[[], object]]
) -> Iterator[tuple[str, int]]:
    """Begin and run something again and again; yield after each interrupt at the next point."""
    for where, name in POINTS:
        for number in range(50):
            run = begin()
            with monkeypatch.context() as patched:
                interrupt(patched, where, name, number)
                try:
                    run()
                except KeyboardInterrupt:
                    yield name, number
                else:
                    break


@pytest.mark.parametrize("ending", ["", ".next"])
def test_an_interrupt_leaves_nothing_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ending: str
) -> None:
    wanted = NEXT if ending else FILES
    places: list[Place] = []

    def begin() -> Callable[[], object]:
        root = tmp_path / str(len(places))
        root.mkdir()
        this = Place(root)
        places.append(this)
        if not ending:
            return this.issue
        this.issue()
        this.now += 80 * DAY
        this.out = root / "next"
        for cluster in CLUSTERS:
            (this.out / cluster).mkdir(mode=0o700, parents=True)
        return this.renew

    for _ in interrupted(monkeypatch, begin):
        this = places[-1]
        complete = [
            cluster for cluster in CLUSTERS if (this.out / cluster).exists() and this.files(cluster)
        ]
        assert all(this.files(cluster) == wanted for cluster in complete)
        assert all(this.problems(cluster, ending) == [] for cluster in complete)
        assert len(this.directory.entries) == len(complete) + (3 if ending else 0)
        assert not [*this.out.glob(".*")]
    assert len(places) > 9


def test_an_interrupted_revocation_keeps_the_list(
    this: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    this.issue()
    before = {path.name: path.read_bytes() for path in this.ca.glob("*.pem")}
    with monkeypatch.context() as patched:
        interrupt(patched, Path, "replace", 0)
        with pytest.raises(KeyboardInterrupt):
            this.revoke("cluster2-worker")
    assert {path.name: path.read_bytes() for path in this.ca.glob("*") if path.is_file()} == before


def test_an_interrupted_init_leaves_no_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = tmp_path / "ca"

    def begin() -> Callable[[], object]:
        shutil.rmtree(made, ignore_errors=True)
        return lambda: authority_files.create(str(made), 1, PASSPHRASE, NOW)

    points = []
    for point in interrupted(monkeypatch, begin):
        points.append(point)
        assert [*tmp_path.iterdir()] == []
    assert points == [("write", 0), ("write", 1), ("write", 2), ("rename", 0)]


def test_a_finish_that_was_interrupted_can_be_repeated(
    this: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority_files.create_following(this.directory, 730, PASSPHRASE, NOW)
    new = this.directory.following
    for _ in ("after the key", "after the list"):
        with monkeypatch.context() as patched:
            interrupt(patched, Path, "replace", 1)
            with pytest.raises(KeyboardInterrupt):
                issuing.finish(this.directory, NOW)
    issuing.finish(this.directory, NOW)
    assert this.directory.certificate == new
    this.issue()
    assert this.problems(CLUSTERS[0]) == []
    assert not [*this.ca.glob("*.next")]
