"""Every report is JSON that its published schema allows: results and errors, whatever the code."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from msgspec.structs import replace

from cablectl.cli import main, reporting
from cablectl.doctor.collect import diagnosis
from cablectl.doctor.finding import Finding, FindingState
from cablectl.errors import CablectlError, HostNotReadyError, TimeLimitError, UsageError
from cablectl.facts.host_facts import Facts
from cablectl.host import cables, offloading, reading
from cablectl.libreswan.dialects import Version
from cablectl.linux.esp_offload import Nic, OffloadReport
from cablectl.linux.xfrm import SecurityAssociation
from cablectl.plan import connect_plan, teardown_plan
from cablectl.plan.steps import Action, Outcome
from cablectl.render.envelope import KINDS, Kind, as_json, as_json_line
from cablectl.run import answers, execute
from cablectl.status import state
from cablectl.verification.observe import observation
from tests.support.alive import NOW, alive
from tests.support.alive import report as status_report
from tests.support.evidence import evidence
from tests.support.examples import load, load_all
from tests.support.places import EXAMPLES, PROGRAM, ROOT

FILE = (str(EXAMPLES / "quickstart.yaml"), "--local", "cluster1")
MESH = (str(EXAMPLES / "mesh.yaml"), "--local", "cluster1")
BLANK = Facts(libreswan=Version(4, 10))
SCHEMAS = {
    kind: json.loads((ROOT / "docs" / f"{kind}.schema.json").read_text(encoding="utf-8"))
    for kind in KINDS
}
Report = Callable[..., tuple[int, dict[str, Any], str]]


@pytest.fixture
def report(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Report:
    """Run a command with --format json; return its exit code, its report and its stderr."""

    def run(kind: Kind, *arguments: str) -> tuple[int, dict[str, Any], str]:
        monkeypatch.setattr(sys, "argv", ["cablectl", kind, *arguments, "--format", "json"])
        with pytest.raises(SystemExit) as leaving:
            main()
        output, errors = capsys.readouterr()
        printed = json.loads(output)
        jsonschema.validate(printed, SCHEMAS[kind])
        assert (printed["kind"], printed["host"]) == (kind, os.uname().nodename)
        code = leaving.value.code
        assert isinstance(code, int)
        return code, printed, errors

    return run


@pytest.mark.parametrize("kind", KINDS)
def test_each_schema_is_a_schema_and_takes_a_result_or_an_error(kind: Kind) -> None:
    schema = SCHEMAS[kind]
    jsonschema.Draft202012Validator.check_schema(schema)
    error: dict[str, Any] = {"message": "m", "hint": None, "details": [], "exit_code": 1}
    envelope: dict[str, Any] = {"version": 1, "kind": kind, "host": "gateway"}
    jsonschema.validate(envelope | {"error": error}, schema)
    wrongs: tuple[dict[str, Any], ...] = (
        {},
        {"error": error, "result": {}},
        {"error": error, "more": 1},
        {"error": error | {"more": 1}},
        {"error": error, "version": 2},
        {"error": error, "kind": "another"},
        {"result": {}},
        {"error": None},
    )
    for wrong in wrongs:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(envelope | wrong, schema)


@pytest.mark.parametrize("kind", KINDS)
def test_every_key_is_documented(kind: Kind) -> None:
    schema = SCHEMAS[kind]
    text = (ROOT / "docs" / "json.md").read_text(encoding="utf-8")
    keys = set(schema["properties"])
    for definition in schema["$defs"].values():
        keys |= set(definition.get("properties", ()))
    assert len(keys) >= 10
    assert [key for key in sorted(keys) if f"`{key}`" not in text] == []
    assert f"]({kind}.schema.json)" in text


class TestResults:
    @pytest.mark.parametrize("local", [FILE, MESH])
    @pytest.mark.parametrize("action", Action)
    def test_plan(self, report: Report, local: tuple[str, ...], action: Action) -> None:
        arguments = (*local, "--dry-run", "--libreswan", "4.10", "--action", action)
        code, printed, _ = report("plan", *arguments)
        assert (code, printed["result"]["action"]) == (0, action)
        assert len(printed["result"]["steps"]) > 5
        code, printed, _ = report("plan", *arguments, "--exit-code")
        assert (code, printed["result"]["action"]) == (1, action)

    def test_status(self, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
        cable = load("quickstart")
        for facts, code in ((alive(cable), 0), (BLANK, 1)):
            states = status_report(state.of(cable, facts, NOW))
            monkeypatch.setattr(cables, "report_of_all", lambda now=states: now)
            found, printed, _ = report("status")
            assert (found, len(printed["result"]["cables"])) == (code, 1)

    def test_verify(self, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
        """The proofs of several cables are one document."""
        second, _ = load_all("mesh")
        monkeypatch.setattr(
            observation,
            "verify",
            lambda cable, *_, **__: evidence(cable=cable, lost=int(cable.id == second.id)),
        )
        code, printed, _ = report("verify", *MESH)
        result = printed["result"]
        assert (code, result["proven"]) == (1, False)
        assert [proof["proven"] for proof in result["proofs"]] == [False, True]
        code, printed, _ = report("verify", *MESH, "--peer", "cluster3")
        assert (code, printed["result"]["proven"]) == (0, True)

    @pytest.mark.parametrize("finding", FindingState)
    def test_doctor(
        self, report: Report, monkeypatch: pytest.MonkeyPatch, finding: FindingState
    ) -> None:
        found = (Finding("peer", finding, "evidence", "mend it"),)
        monkeypatch.setattr(diagnosis, "findings", lambda *_: found)
        for arguments in ((), FILE):
            code, printed, _ = report("doctor", *arguments)
            assert code == (finding is FindingState.FAIL)
            assert printed["result"]["counts"][finding] == 1

    def test_offload(self, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
        sas = tuple(
            SecurityAssociation("10.0.0.1", "10.0.0.2", "esp", "0x1", 1, mode, "eth0")
            for mode in ("", "crypto", "packet")
        )
        cable = OffloadReport(
            cable="submariner-cable-cluster2-10-0-0-2",
            asked=None,
            encapsulation=None,
            nic=Nic("eth0", {"esp-hw-offload": True}),
            module="esp4_offload",
            loaded=True,
            sas=sas,
        )
        without_nic = replace(cable, nic=None, sas=())
        monkeypatch.setattr(offloading, "offload_of_all", lambda: [cable, without_nic])
        code, printed, _ = report("offload")
        assert code == 0
        assert [one["verdict"] for one in printed["result"]["cables"]] == ["mixed", "none"]

    def test_import(self, report: Report, tmp_path: Path) -> None:
        names = [
            str(EXAMPLES / "submariner" / f"{name}.yaml") for name in ("submariner", "endpoints")
        ]
        psk, output = tmp_path / "psk", tmp_path / "cable.yaml"
        options = ("--psk-file", str(psk), "--output", str(output))
        code, printed, errors = report("import", *names, *options)
        result = printed["result"]
        assert (code, result["output"], result["yaml"]) == (0, str(output), output.read_text())
        assert (result["psk_file"], result["psk_written"]) == (str(psk), True)
        assert psk.read_text().strip() not in json.dumps(printed)
        assert [f"cablectl: note: {note}" in errors for note in result["notes"]] == [True] * len(
            result["notes"]
        )
        code, printed, _ = report("import", *names, "--psk-file", str(psk))
        assert (code, printed["result"]["output"]) == (0, None)
        assert (printed["result"]["psk_file"], printed["result"]["psk_written"]) == (
            str(psk),
            False,
        )


@pytest.fixture
def root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(answers, "silent", lambda *_: {})


@pytest.mark.usefixtures("root")
class TestOutcomes:
    """connect and teardown, with an outcome in the place of a host."""

    @pytest.mark.parametrize("kind", ["connect", "teardown"])
    def test_all_cables_are_as_planned(
        self, report: Report, monkeypatch: pytest.MonkeyPatch, kind: Kind
    ) -> None:
        make = connect_plan.plan if kind == "connect" else teardown_plan.plan
        plan = make(load_all("mesh"), (BLANK, BLANK))
        monkeypatch.setattr(execute, "apply", lambda *_: Outcome(plan))
        code, printed, errors = report(kind, *MESH)
        assert (code, errors) == (0, "")
        assert printed["result"]["changed"] is (kind == "connect")
        assert [cable["error"] for cable in printed["result"]["cables"]] == [None, None]

    def test_one_of_several_failed(self, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
        """The result names it; the exit code and stderr are those without JSON."""
        second, third = load_all("mesh")
        plan = connect_plan.plan((second, third), (BLANK, BLANK))
        late = TimeLimitError("too late", hint="wait", details=["$ it"])
        monkeypatch.setattr(execute, "apply", lambda *_: Outcome(plan, {third.id: late}))
        code, printed, errors = report("connect", *MESH)
        assert code == 4
        assert printed["result"]["cables"] == [
            {"cable": second.id, "error": None},
            {
                "cable": third.id,
                "error": {
                    "message": "too late",
                    "hint": "wait",
                    "details": ["$ it"],
                    "exit_code": 4,
                },
            },
        ]
        assert errors.startswith("cablectl: 1 of 2 cables failed\n")

    def test_the_only_one_failed(self, report: Report, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise CablectlError("add: the command failed", hint="mend it", details=["$ it", "no"])

        monkeypatch.setattr(execute, "apply", fail)
        code, printed, errors = report("connect", *FILE)
        assert (code, printed["error"]["details"]) == (1, ["$ it", "no"])
        assert errors == "cablectl: add: the command failed\n  $ it\n  no\n  try: mend it\n"

    @pytest.mark.parametrize("kind", ["connect", "teardown"])
    def test_not_of_a_dry_run(self, report: Report, kind: Kind) -> None:
        code, printed, _ = report(kind, *FILE, "--dry-run")
        assert (code, "--dry-run" in printed["error"]["message"]) == (2, True)


OF_FILES = [kind for kind in KINDS if kind != "ca"]  # a group, whose commands have other options
OF_A_FILE = [kind for kind in OF_FILES if kind != "import"]


class TestErrors:
    @pytest.mark.parametrize("kind", OF_FILES)
    def test_a_file_that_is_missing(self, report: Report, kind: Kind) -> None:
        code, printed, errors = report(kind, "no-such-file")
        assert code == printed["error"]["exit_code"] == 2
        assert errors == f"cablectl: {printed['error']['message']}\n"

    def test_a_name_that_is_no_utf8(self) -> None:
        argv = [PROGRAM.encode(), b"plan", b"no-such-\xff", b"--format", b"json"]
        done = subprocess.run(argv, capture_output=True, text=True, check=False)
        assert done.returncode == 2
        assert json.loads(done.stdout)["error"]["message"].startswith("no-such-\ufffd: No such")
        assert done.stderr.startswith("cablectl: no-such-\\udcff: No such")

    @pytest.mark.parametrize("kind", OF_A_FILE)
    def test_all_problems_of_a_file(self, report: Report, kind: Kind, tmp_path: Path) -> None:
        file = tmp_path / "cable.yaml"
        file.write_text("version: 1\nmode: transport\noverlay: vxlan\nendpoints: []\nmore: 1\n")
        code, printed, errors = report(kind, str(file))
        error = printed["error"]
        assert (code, len(error["details"]) > 0) == (2, True)
        assert errors.splitlines() == [
            f"cablectl: {error['message']}",
            *(f"  {line}" for line in error["details"]),
        ]

    @pytest.mark.parametrize("kind", KINDS)
    def test_an_option_that_is_none(self, report: Report, kind: Kind) -> None:
        code, printed, errors = report(kind, "--frobnicate")
        assert (code, printed["error"]["exit_code"]) == (2, 2)
        assert "--frobnicate" in printed["error"]["message"]
        assert printed["error"]["message"] in errors

    # Without a next key, rotate asks nothing else of the host.
    @pytest.mark.parametrize("kind", [kind for kind in OF_A_FILE if kind != "rotate"])
    def test_a_host_that_is_not_ready(
        self, report: Report, monkeypatch: pytest.MonkeyPatch, kind: Kind
    ) -> None:
        def refuse(*_: object, **__: object) -> None:
            raise HostNotReadyError("only root may", hint="sudo")

        for module, name in (
            (reading, "facts_of"),
            (cables, "report_of"),
            (offloading, "offload_of"),
            (diagnosis, "findings"),
            (observation, "verify"),
            (execute, "apply"),
        ):
            monkeypatch.setattr(module, name, refuse)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        code, printed, errors = report(kind, *FILE)
        assert code == printed["error"]["exit_code"] == 3
        assert printed["error"]["hint"] == "sudo"
        assert errors == "cablectl: only root may\n  try: sudo\n"

    def test_a_key_that_cannot_be_written(self, report: Report, tmp_path: Path) -> None:
        names = [
            str(EXAMPLES / "submariner" / f"{name}.yaml") for name in ("submariner", "endpoints")
        ]
        (tmp_path / "psk").write_text("another key\n")
        code, printed, _ = report("import", *names, "--psk-file", str(tmp_path / "psk"))
        assert code == printed["error"]["exit_code"] == 3

    def test_a_reader_that_leaves_does_not_change_the_exit_code(self) -> None:
        reader, writer = os.pipe()
        os.close(reader)
        argv = [PROGRAM, "plan", "no-such-file", "--format", "json"]
        with os.fdopen(writer) as gone:
            done = subprocess.run(argv, stdout=gone, stderr=subprocess.PIPE, text=True, check=False)
        assert done.returncode == 2
        assert done.stderr == "cablectl: no-such-file: No such file or directory\n"


class TestTheWish:
    @pytest.mark.parametrize(
        ("line", "expected"),
        [
            ("plan a.yaml --format json", ("plan", False)),
            ("-v plan a.yaml --format=json", ("plan", False)),
            ("status --watch --format json", ("status", True)),
            ("plan a.yaml --format sh --format json", ("plan", False)),
            ("plan a.yaml --format=json --format sh", None),
            ("plan a.yaml --format", None),
            ("plan a.yaml -- --format json", None),
            ("plan a.yaml json", None),
            ("secret --format json", None),
            ("--format json", None),
            ("", None),
        ],
    )
    def test_is_in_the_words(self, line: str, expected: tuple[Kind, bool] | None) -> None:
        assert reporting.json_wish(line.split()) == expected


class TestWatch:
    """Each look is an envelope in a line of its own, errors as well."""

    @pytest.fixture
    def lines(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> Callable[[list[object]], tuple[int, list[dict[str, Any]], str]]:
        def watch(looks: list[object]) -> tuple[int, list[dict[str, Any]], str]:
            def report() -> object:
                look = looks.pop(0) if looks else KeyboardInterrupt()
                if isinstance(look, BaseException):
                    raise look
                return look

            monkeypatch.setattr(cables, "report_of_all", report)
            monkeypatch.setattr(cables, "INTERVAL", 0)
            arguments = ["cablectl", "status", "--watch", "--format", "json"]
            monkeypatch.setattr(sys, "argv", arguments)
            with pytest.raises(SystemExit) as leaving:
                main()
            output, errors = capsys.readouterr()
            printed = [json.loads(line) for line in output.splitlines()]
            for envelope in printed:
                jsonschema.validate(envelope, SCHEMAS["status"])
            assert isinstance(leaving.value.code, int)
            return leaving.value.code, printed, errors

        return watch

    def test_an_error_between_two_reports(self, lines: Callable[..., Any]) -> None:
        cable = load("quickstart")
        up = status_report(state.of(cable, alive(cable), NOW))
        code, printed, errors = lines([up, HostNotReadyError("pluto is off"), up])
        assert code == 130
        assert [list(envelope)[-1] for envelope in printed] == ["result", "error", "result"]
        assert errors == "cablectl: pluto is off\n"

    def test_an_error_at_first(self, lines: Callable[..., Any]) -> None:
        code, printed, _ = lines([UsageError("no")])
        assert (code, [envelope["error"]["message"] for envelope in printed]) == (2, ["no"])


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("é 😀", "é 😀"),
        ("\udcff 😀", "\ufffd 😀"),
        (r"\udcff \ud83d\udcff", r"\udcff \ud83d\udcff"),
        ("\\\udcff\ud83d", "\\\ufffd\ufffd"),
    ],
)
def test_json_is_ascii_and_valid_whatever_a_file_is_called(message: str, printed: str) -> None:
    envelope = reporting.of_error("plan", UsageError(message))
    for text in (as_json(envelope), as_json_line(envelope)):
        assert text.isascii()
        assert json.loads(text)["error"]["message"] == printed
