"""`cablectl rotate` at the command line: what it refuses, and what it says."""

import json
import os
import sys
from pathlib import Path

import jsonschema
import pytest

from cablectl.cli import main
from tests.support.documents import document
from tests.support.places import ROOT
from tests.support.program import run


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "cable.yaml"


@pytest.mark.parametrize(
    ("shape", "more", "message"),
    [
        ("none vxlan v4", "", "mode: none has no key to rotate"),
        ("tunnel v4", "", "rotate needs an overlay"),
        ("transport none v4", "", "rotate needs an overlay"),
        ("transport vxlan v4", "ipsec: {psk: {env: KEY}}\n", "rotate needs the keys in files"),
        ("transport vxlan v4", "guard: false\n", "guard: false"),
    ],
)
def test_what_it_refuses(file: Path, shape: str, more: str, message: str) -> None:
    file.write_text(document(shape) + more)
    done = run("rotate", str(file), "--local", "cluster1")
    assert done.returncode == 2, done.stderr
    assert message in done.stderr
    assert "try: " in done.stderr
    assert done.stdout == ""


def test_a_dry_run_has_no_json(file: Path) -> None:
    file.write_text(document("transport vxlan v4"))
    done = run("rotate", str(file), "--local", "cluster1", "--dry-run", "--format", "json")
    assert done.returncode == 2
    assert "--format json" in done.stderr


def test_nothing_is_to_rotate(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text(document("transport vxlan v4"))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        sys, "argv", [*"cablectl rotate --local cluster1 --format json".split(), str(file)]
    )
    with pytest.raises(SystemExit) as leaving:
        main()
    printed = json.loads(capsys.readouterr().out)
    jsonschema.validate(printed, json.loads((ROOT / "docs" / "rotate.schema.json").read_text()))
    assert not leaving.value.code
    assert printed["result"] == {
        "changed": False,
        "cables": [{"cable": "cluster2-172-18-0-7", "phase": None, "error": None}],
    }
