"""`verify`: what it prints, what it needs of the host, and when it looks once more."""

import io
import os
import pty
import socket
from collections.abc import Callable, Iterator

import pytest
from msgspec import to_builtins
from msgspec.structs import replace

from cablectl.errors import HostNotReadyError
from cablectl.facts.host_facts import connected
from cablectl.host import reading
from cablectl.linux.esp_offload import Nic
from cablectl.model.cable import Cable
from cablectl.render import proof_table
from cablectl.render.proof_report import cable_proof
from cablectl.verification import proof
from cablectl.verification.frames import Tally
from cablectl.verification.observe import observation
from cablectl.verification.observe.capture import Capture
from cablectl.verification.observe.echo import Echo
from cablectl.verification.proof import Answers, Evidence
from tests.support.evidence import evidence, sa
from tests.support.plans import BLANK
from tests.support.terminal import shown_on

CLEAR = evidence(before=(), after=(), tally=Tally(all=40, clear_out=20, clear_in=20), sizes=None)
SILENT = evidence(
    answers=Answers(sent=20, answered=0),
    after=(sa("out", 20), sa("in")),
    tally=Tally(all=20, esp_out=20),
    sizes=None,
)
# The longest lines: IPv6 all over, many SAs, and all that can be said.
LONG = evidence(
    flow=proof.Flow("2001:db8:4444:5555::8", "2001:db8:4545:5555::7", "enp129s0f0np0"),
    after=tuple(sa("in", 20, spi=f"0xdeadbee{i}") for i in range(8)),
    guard_drops=None,
    lost=3,
)


def table(seen: Evidence, stream: io.TextIOBase | None = None) -> str:
    to = io.StringIO() if stream is None else stream
    proof_table.print_table(seen, proof.claims(seen), to)  # type: ignore[arg-type]
    return to.getvalue() if isinstance(to, io.StringIO) else ""


def test_each_claim_is_a_line_with_its_numbers() -> None:
    name, ends, *lines = (line.rstrip() for line in table(evidence()).splitlines())
    assert name == "submariner-cable-cluster2-172-18-0-7"
    assert ends == "241.18.0.8 to 241.18.0.7, captured on eth0"
    assert lines == [
        "sent        ok  20 of 20 packets of 84 bytes",
        "answered    ok  20 of 20",
        "bytes out   ok  2280 counted, 2280 sent; by 0x1",
        "bytes in    ok  2280 counted, 2280 answered; by 0x1",
        "ESP out     ok  20 frames of these SAs, 20 sent",
        "ESP in      ok  20 frames of these SAs, 20 answered",
        "lost        ok  0 frames, of 40 on eth0",
        "clear text  ok  0 frames out, 0 in",
        "MTU         ok  1408 bytes pass, 1408 computed, device MTU 1408",
        "encrypted",
    ]


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        (CLEAR, "not proven: bytes out, bytes in, ESP out, ESP in, clear text"),
        (SILENT, "encrypted on the way out; no answer came back"),
    ],
)
def test_the_verdict_is_the_last_line(seen: Evidence, verdict: str) -> None:
    assert table(seen).splitlines()[-1] == verdict


@pytest.mark.parametrize("seen", [evidence(), CLEAR, SILENT, LONG])
def test_it_fits_80_columns_and_has_no_colour_in_a_pipe(seen: Evidence) -> None:
    lines = table(seen).splitlines()
    assert max(map(len, lines)) <= 80
    assert "\x1b" not in "".join(lines)


def test_colour_on_a_terminal_unless_no_color(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")

    def shown() -> str:
        reader, writer = pty.openpty()
        with os.fdopen(writer, "w") as stream:
            table(CLEAR, stream)
        return shown_on(reader)

    assert "\x1b[1;31mFAILED" in shown()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[1;31m" not in shown()
    assert "FAILED" in shown()


def test_json() -> None:
    told = to_builtins(cable_proof(CLEAR, proof.claims(CLEAR)))
    assert list(told) == [
        "cable",
        "source",
        "target",
        "device",
        "proven",
        "claims",
        "sas",
    ]
    assert (told["proven"], told["sas"]) == (False, ())
    (clear,) = (each for each in told["claims"] if each["claim"] == "clear text")
    assert clear == {
        "claim": "clear text",
        "state": "FAILED",
        "found": 40,
        "expected": 0,
        "text": "20 frames out, 20 in",
    }
    told = to_builtins(cable_proof(evidence(), proof.claims(evidence())))
    assert told["proven"]
    assert told["sas"][0] == {
        "spi": "0x1",
        "source": "172.18.0.8",
        "destination": "172.18.0.7",
        "bytes": 2280,
        "packets": 20,
    }


@pytest.mark.parametrize(
    "enter",
    [
        lambda: Capture("eth0", b"", print).__enter__(),
        lambda: Echo(4, "127.0.0.1", "127.0.0.2").__enter__(),
    ],
    ids=["capture", "echo"],
)
def test_without_the_right_to_it_the_host_is_not_ready(
    enter: Callable[[], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(socket, "socket", refused)
    with pytest.raises(HostNotReadyError, match="root or CAP_NET_RAW") as caught:
        enter()
    assert "sudo" in caught.value.hint
    assert caught.value.exit_code == 3


@pytest.fixture
def rounds(cable: Cable, monkeypatch: pytest.MonkeyPatch) -> list[Evidence]:
    """What is seen each time, as if it were; what is left are the times not looked."""
    facts = replace(connected(cable, BLANK, 1408), nic=Nic("eth0"))
    monkeypatch.setattr(reading, "facts", lambda _: facts)
    rekeyed = evidence(after=(sa("out", 20, spi="0x2"), sa("in", 20)))
    left = [rekeyed, rekeyed, evidence(), evidence()]
    told: Iterator[Evidence] = (left.pop(0) for _ in range(4))
    monkeypatch.setattr(observation, "_observe", lambda *_, **__: next(told))
    return left


def test_a_rekeying_has_it_look_once_more(cable: Cable, rounds: list[Evidence]) -> None:
    assert not observation.verify(cable, 20, sizes=False).rekeyed
    assert len(rounds) == 1


def test_but_not_for_ever(
    cable: Cable, rounds: list[Evidence], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observation, "TRIES", 2)
    assert observation.verify(cable, 20, sizes=False).rekeyed
    assert len(rounds) == 2
