"""The state of cables as a table, a line and JSON; and what a watch shows of it."""

import io
import json
import os
import pty
from datetime import UTC, datetime

import jsonschema
import pytest
from msgspec.structs import replace

from cablectl.cli.reporting import of_result
from cablectl.errors import CablectlError
from cablectl.facts.host_facts import Facts
from cablectl.model.cable import Cable
from cablectl.render import status_table
from cablectl.render.envelope import as_json, as_json_line
from cablectl.render.watching import Lines, Live, view
from cablectl.status import state
from cablectl.status.health import with_health
from cablectl.status.report import CableState, HealthState, StatusReport, Verdict
from tests.support.alive import BLANK, NOW, alive, report, without_sa
from tests.support.documents import shaped
from tests.support.every_state import ODD, every_state
from tests.support.health import ANSWERING, SILENT, UNANSWERING, UNKNOWN
from tests.support.places import ROOT
from tests.support.standing import with_ends
from tests.support.terminal import shown_on

SCHEMA = json.loads((ROOT / "docs" / "status.schema.json").read_text())


def test_json_is_what_its_schema_says() -> None:
    envelope = of_result("status", every_state())
    told = json.loads(as_json(envelope))
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    jsonschema.validate(told, SCHEMA)
    assert (told["version"], told["kind"]) == (1, "status")
    assert told == json.loads(as_json_line(envelope))
    assert "\n" not in as_json_line(envelope)


@pytest.mark.parametrize(
    ("where", "value"),
    [
        (("version",), 2),
        (("kind",), "plan"),
        (("error",), {"message": "m", "hint": None, "details": [], "exit_code": 1}),
        (("result", "cables", 0, "more"), 1),
        (("result", "cables", 0, "verdict"), "fine"),
        (("result", "cables", 0, "connections", 0, "child_sas", 0, "spi_in"), "7027bc00"),
        (("result", "cables", 0, "connections", 0, "child_sas", 0, "bytes_in"), -1),
        (("result", "cables", 0, "overlay"), {}),
    ],
)
def test_the_schema_is_strict(where: tuple[str | int, ...], value: object) -> None:
    tunnel = report(state.of(shaped("tunnel v4"), alive_tunnel(), NOW))
    told = json.loads(as_json(of_result("status", tunnel)))
    jsonschema.validate(told, SCHEMA)
    place = told
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(told, SCHEMA)


def alive_tunnel() -> Facts:
    return alive(shaped("tunnel v4"))


def test_every_verdict_is_documented() -> None:
    text = (ROOT / "docs" / "json.md").read_text()
    assert [each for each in Verdict if f"`{each}`" not in text] == []


@pytest.mark.parametrize(
    ("days", "told"),
    [
        (31, " ends DATE, in 30d"),
        (30, " ends DATE, in 29d: renew it"),
        (6, " ends DATE, in 5d: renew it now"),
        (1, " ends DATE, within a day: renew it now"),
        (-1, ": expired since DATE, renew it"),
    ],
)
def test_the_table_says_when_a_certificate_ends(cable: Cable, days: int, told: str) -> None:
    facts = with_ends(alive(cable), (("gateway", "CN=west", days), ("authority", "CN=a", 99)), NOW)
    one = state.of(cable, facts, NOW)
    words = " ".join(" ".join(table(one)).split())
    date = f"{datetime.fromtimestamp(NOW + days * 86400, UTC):%Y-%m-%d}"
    assert f"certificate CN=west{told}".replace("DATE", date) in words
    assert "authority CN=a ends" in words
    lines = " ".join(table(*[replace(one, cable=f"cable-{number}") for number in range(9)]))
    assert lines.count(f"CN=west{told}".replace("DATE", date)) == (days < 31)
    assert "CN=a" not in lines


def table(*cables: CableState) -> list[str]:
    stream = io.StringIO()
    status_table.print_table(report(*cables), stream)
    return stream.getvalue().splitlines()


class TestTable:
    def test_of_one_that_is_up(self, cable: Cable) -> None:
        assert table(state.of(cable, alive(cable), NOW)) == UP.splitlines()

    def test_reasons_come_first(self, cable: Cable) -> None:
        first, second, third, *_ = table(state.of(cable, without_sa(cable, alive(cable), 1), NOW))
        assert first == "submariner-cable-cluster2-172-18-0-7  degraded"
        assert second == "  - connection 1 has no Child SA for what the local VTEP sends"
        assert third.startswith("  peer ")

    def test_fits_80_columns_with_nothing_behind_its_words(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("COLUMNS", "80")
        lines = table(*every_state().cables)
        assert max(map(len, lines)) <= 80
        assert lines == [line.rstrip() for line in lines]
        assert "\x1b" not in "".join(lines)

    def test_of_nothing_only_the_reason_is_told(self, cable: Cable) -> None:
        down, lost = state.of(cable, BLANK, NOW), state.unknown(ODD, Verdict.DOWN, "why")
        assert table(down, lost) == [
            "submariner-cable-cluster2-172-18-0-7  down",
            "  - this host has nothing of the cable",
            "",
            f"{ODD}  down",
            "  - why",
        ]
        assert table() == ["no cable on this host"]

    def test_clear_text_is_told_as_such(self) -> None:
        cable = shaped("none vxlan v4")
        assert table(state.of(cable, alive(cable), NOW))[0].endswith("  up, in clear text")

    @pytest.mark.parametrize(
        ("health", "told"),
        [
            (ANSWERING, "RTT 50.1 ms, mean 50.3 ms, jitter 0.2 ms, 3% of 100 echoes lost"),
            (SILENT, "no answer for 1m17s, 13% of 100 echoes lost"),
            (UNANSWERING, "the peer answers no echoes, but packets come in from it"),
            (UNKNOWN, "no echo is answered or lost yet"),
        ],
    )
    def test_what_echoes_tell(self, cable: Cable, health: HealthState, told: str) -> None:
        lines = table(with_health(state.of(cable, alive(cable), NOW), health))
        assert f"  health      {told}" in lines
        assert ("  - no echo comes back" in lines) == (health is SILENT)

    def test_rates_stand_below_what_was_carried(self, cable: Cable) -> None:
        first = report(state.of(cable, alive(cable), NOW))
        (rated,) = state.rated(first, replace(first, time=NOW + 2)).cables
        *_, line, rates = table(rated)
        assert line.split()[-4:] == ["824", "bytes", "1.2", "kB"]
        assert rates.split() == ["0", "bytes/s", "0", "bytes/s"]


UP = """\
submariner-cable-cluster2-172-18-0-7  up
  peer        172.18.0.7, transport mode, IKE SA established
  connection  0: what the local VTEP receives, routed
              1: what the local VTEP sends, routed
  overlay     vxlan-tunnel is up, MTU 1408 (largest: 1408)
  VTEPs       241.18.0.8/8 here, 241.18.0.7 at the peer
  FDB         00:00:00:00:00:00, 02:ca:ac:12:00:07 to 172.18.0.7
  routes      10.45.0.0/16
  guard       loaded, dropped 0 in, 0 out
  offload     software
  Child SA    SPI in      SPI out      age  rekey         in     out
  0           0x7027bc00  0x35f13300  1h0m   7h0m  824 bytes  1.2 kB
  1           0x7027bc01  0x35f13301  1h0m   7h0m  824 bytes  1.2 kB
"""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0s"),
        (59, "59s"),
        (60, "1m0s"),
        (3599, "59m59s"),
        (28_799, "7h59m"),
        (86_400, "1d0h"),
        (1_000_000, "11d13h"),
    ],
)
def test_durations(seconds: int, text: str) -> None:
    assert status_table.duration(seconds) == text


class TestWatch:
    ERROR = CablectlError("bridge failed", hint="look at it")

    def reports(self, cable: Cable) -> list[StatusReport]:
        up, down = state.of(cable, alive(cable), NOW), state.of(cable, BLANK, NOW)
        looks = ((up,), (up,), (down,), ())
        return [report(*each, time=NOW + 2 * i) for i, each in enumerate(looks)]

    def test_a_pipe_gets_a_line_for_each_change(self, cable: Cable) -> None:
        stream, errors = io.StringIO(), io.StringIO()
        shown = view(stream, errors)
        assert type(shown) is Lines
        for each in self.reports(cable):
            shown.show(each)
        shown.trouble(self.ERROR)
        shown.close()
        name = "submariner-cable-cluster2-172-18-0-7"
        assert stream.getvalue().splitlines() == [
            f"2026-11-24T19:20:00Z {name} up",
            f"2026-11-24T19:20:04Z {name} down: this host has nothing of the cable",
            "2026-11-24T19:20:06Z no cable on this host",
            f"2026-11-24T19:20:06Z {name} removed",
        ]
        assert errors.getvalue() == "cablectl: bridge failed\n  try: look at it\n"

    def on_a_terminal(self, cable: Cable) -> tuple[type, str]:
        reader, writer = pty.openpty()
        with os.fdopen(writer, "w") as stream:
            shown = view(stream, stream)
            for each in self.reports(cable)[:3]:
                shown.show(each)
            shown.trouble(self.ERROR)
            shown.close()
            kind = type(shown)
        return kind, shown_on(reader)

    def test_a_terminal_is_redrawn_and_left_as_it_was(
        self, cable: Cable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.delenv("NO_COLOR", raising=False)
        kind, text = self.on_a_terminal(cable)
        assert kind is Live
        assert text.count("\x1b[1;32mup\x1b[0m") == 2
        assert "\x1b[2K" in text  # what was there is drawn over
        assert text.index("\x1b[?25l") < text.index("\x1b[?25h")  # the cursor is back
        assert "try: look at it" in text

    def test_no_colour_if_that_is_asked_for(
        self, cable: Cable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "xterm")
        monkeypatch.setenv("NO_COLOR", "1")
        _, text = self.on_a_terminal(cable)
        assert "\x1b[1;32m" not in text
        assert "\x1b[31m" not in text

    def test_a_terminal_that_can_do_nothing_gets_lines(
        self, cable: Cable, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("TERM", "dumb")
        kind, text = self.on_a_terminal(cable)
        assert kind is Lines
        assert "\x1b" not in text
        assert len(text.splitlines()) == 4
