"""connect asks the peers of the cables that are up for an echo, and says what came of it."""

import os
import sys
from collections.abc import Callable

import pytest

from cablectl.cli import main
from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError
from cablectl.facts.host_facts import Facts
from cablectl.libreswan.dialects import Version
from cablectl.model.cable import Cable
from cablectl.plan import connect_plan
from cablectl.plan.steps import Outcome
from cablectl.run import answers, execute
from tests.support.examples import load_all
from tests.support.places import EXAMPLES

BLANK = Facts(libreswan=Version(4, 10))
SECOND, THIRD = load_all("mesh")

Connect = Callable[..., tuple[int, str]]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Connect:
    """Run connect, with an outcome in the place of a host; return its exit code and its stderr."""

    def run(failed: dict[str, CablectlError], *arguments: str) -> tuple[int, str]:
        made = Outcome(connect_plan.plan((SECOND, THIRD), (BLANK, BLANK)), failed)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        monkeypatch.setattr(execute, "apply", lambda *_: made)
        file = str(EXAMPLES / "mesh.yaml")
        monkeypatch.setattr(sys, "argv", ["cablectl", "connect", file, *arguments])
        with pytest.raises(SystemExit) as leaving:
            main()
        assert isinstance(leaving.value.code, int)
        return leaving.value.code, capsys.readouterr().err

    return run


def test_a_peer_that_answers_no_echo_fails_its_cable(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The peer of a cable that failed isn't asked."""
    asked = list[Cable]()

    def silent(cables: list[Cable], *_: object) -> dict[str, CablectlError]:
        asked.extend(cables)
        return {SECOND.id: TimeLimitError("no echo came back")}

    monkeypatch.setattr(answers, "silent", silent)
    code, errors = connect({THIRD.id: TimeLimitError("no Child SA")}, "--local", "cluster1")
    assert (code, asked) == (4, [SECOND])
    assert "no echo came back" in errors


def test_without_waiting_no_echo_is_sent(connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(answers, "silent", lambda *_: pytest.fail("an echo was sent"))
    assert connect({}, "--local", "cluster1", "--no-wait") == (0, "")


def test_a_sandbox_without_icmp_gets_a_note(
    connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise HostNotReadyError("no CAP_NET_RAW")

    monkeypatch.setattr(answers, "silent", refuse)
    code, errors = connect({}, "--local", "cluster1")
    assert (code, "no echo is sent through the cable: no CAP_NET_RAW" in errors) == (0, True)
