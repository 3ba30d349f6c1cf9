"""Break a host, check that `doctor` names the cause, repair the host, and count the causes."""

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
# Cause → doctor's finding; the last test of a file counts the file's causes.
NAMED: dict[str, str] = {}


def doctor(gateway: Gateway, *options: str) -> tuple[int, list[Finding]]:
    """Return doctor's exit code and findings."""
    done = run(gateway, "doctor", FILE, *options, "--format", "json")
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)["result"]["findings"]


class Cause(NamedTuple):
    """How to break a host, and the finding that must name the cause: state, check and words.

    `ends` are the indices of the gateways on which doctor must find the cause.
    """

    breaker: Breaker
    state: str
    check: str
    words: tuple[str, ...]
    ends: tuple[int, ...] = (0,)


def assert_named(lab: Lab, cause: str, expected: Cause, record: Record) -> None:
    """Break a host; doctor must name the cause, with a fix and the right exit code."""
    with expected.breaker(lab):
        answers = [doctor(lab.gateways[end]) for end in expected.ends]
    for code, findings in answers:
        problems = [finding for finding in findings if finding["state"] != "ok"]
        matching = [finding for finding in problems if is_named_by(finding, expected)]
        assert matching, json.dumps(problems, indent=1)
        assert matching[0]["fix"]
        assert code == any(finding["state"] == "fail" for finding in findings)
    NAMED[cause] = f"doctor, {expected.state}: {expected.check}: {matching[0]['evidence']}"
    record(cause, NAMED[cause])


def is_named_by(finding: Finding, expected: Cause) -> bool:
    """Tell whether a finding has the cause's state, check and words."""
    same_check = (finding["state"], finding["check"]) == (expected.state, expected.check)
    text = f"{finding['evidence']} {finding['fix']}"
    return same_check and all(word in text for word in expected.words)


def by_shell(change: str, repair: str, gateway: int = 0) -> Breaker:
    """Break a gateway by one shell command, and repair the gateway by another."""

    @contextmanager
    def broken(lab: Lab) -> Iterator[None]:
        lab.gateways[gateway].run("sh", "-c", change)
        try:
            yield
        finally:
            lab.gateways[gateway].run("sh", "-c", repair)

    return broken


def firewall(rule: str, gateway: int = 0) -> Breaker:
    """Load a packet filter of another program, with a rule for incoming packets."""
    chain = f"chain c {{ type filter hook input priority 0; {rule}; }}"
    return by_shell(f"nft 'table inet fw {{ {chain}; }}'", "nft delete table inet fw", gateway)


@contextmanager
def nothing_else(_: Lab) -> Iterator[None]:
    """Break nothing: the host is broken already."""
    yield


def score(causes: Iterable[str], record: Record) -> None:
    """Record how many causes doctor named; it must have named each, in different words."""
    broken = set(causes)
    named = NAMED.keys() & broken
    record("broken hosts whose cause doctor names", f"{len(named)} of {len(broken)}")
    assert named == broken
    assert len({NAMED[cause] for cause in named}) == len(named)
