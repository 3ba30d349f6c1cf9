"""Breaks a host, asks `doctor` what is wrong, mends it, and keeps the score."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import NamedTuple

from .cable import FILE, run
from .gateways import Gateway, Lab

Record = Callable[[str, object], None]
Breaker = Callable[[Lab], AbstractContextManager[None]]
Finding = dict[str, str]
# Of each broken host, what doctor said; the last test of a file counts its own.
NAMED: dict[str, str] = {}


def doctor(gateway: Gateway, *options: str) -> tuple[int, list[Finding]]:
    """Return the exit code and what was found."""
    done = run(gateway, "doctor", FILE, *options, "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)["result"]["findings"]


class Cause(NamedTuple):
    """How a host is broken, and how doctor names that: by which check, in which words, and where.

    `ends` are the gateways, by number, that can tell.
    """

    breaker: Breaker
    state: str
    check: str
    words: tuple[str, ...]
    ends: tuple[int, ...] = (0,)


def names(lab: Lab, cause: str, told: Cause, record: Record) -> None:
    """Break the host and have doctor name the cause, with what to do about it."""
    with told.breaker(lab):
        answers = [doctor(lab.gateways[end]) for end in told.ends]
    for code, findings in answers:
        troubles = [each for each in findings if each["state"] != "ok"]
        found = [
            each
            for each in troubles
            if (each["state"], each["check"]) == (told.state, told.check)
            and all(word in f"{each['evidence']} {each['fix']}" for word in told.words)
        ]
        assert found, json.dumps(troubles, indent=1)
        assert found[0]["fix"]
        assert code == any(each["state"] == "fail" for each in findings)
    NAMED[cause] = f"doctor, {told.state}: {told.check}: {found[0]['evidence']}"
    record(cause, NAMED[cause])


def by(change: str, mend: str, gateway: int = 0) -> Breaker:
    """Break a gateway by a shell command, and mend it by another."""

    @contextmanager
    def broken(lab: Lab) -> Iterator[None]:
        lab.gateways[gateway].run("sh", "-c", change)
        try:
            yield
        finally:
            lab.gateways[gateway].run("sh", "-c", mend)

    return broken


def firewall(rule: str, gateway: int = 0) -> Breaker:
    """Have a packet filter of somebody's drop what comes in."""
    chain = f"chain c {{ type filter hook input priority 0; {rule}; }}"
    return by(f"nft 'table inet fw {{ {chain}; }}'", "nft delete table inet fw", gateway)


@contextmanager
def nothing_else(_: Lab) -> Iterator[None]:
    """It is broken already."""
    yield


def score(causes: Iterable[str], record: Record) -> None:
    """Count those whose cause was named; all are expected to be."""
    broken = set(causes)
    named = NAMED.keys() & broken
    record("broken hosts whose cause doctor names", f"{len(named)} of {len(broken)}")
    assert named == broken
    assert len({NAMED[each] for each in named}) == len(named)  # no two in the same words
