"""The program as a stranger meets it: a process, its streams and its exit code."""

import json
import os
import pty
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cablectl import __version__
from tests.support.places import EXAMPLES, PROGRAM, ROOT
from tests.support.program import run
from tests.support.terminal import shown_on

DRY = ("plan", str(EXAMPLES / "quickstart.yaml"), "--dry-run", "--libreswan", "4.10")


def test_version_and_module() -> None:
    assert run("--version").stdout == f"cablectl {__version__}\n"
    done = subprocess.run(
        [sys.executable, "-m", "cablectl", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"cablectl {__version__}\n"


@pytest.mark.parametrize(
    "command",
    [
        "init",
        "plan",
        "connect",
        "teardown",
        "status",
        "verify",
        "doctor",
        "offload",
        "import",
        "secret new",
    ],
)
def test_help_has_an_example(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.returncode == 0
    words = done.stdout.split()
    example = " ".join(words[words.index("Example:") :])
    assert f"cablectl {command}" in example
    assert command.split()[0] in run("--help").stdout


def test_plan_prints_a_script_on_stdout_and_nothing_else() -> None:
    done = run(*DRY, "--local", "cluster1")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("#!/bin/sh\n")
    golden = ROOT / "tests" / "golden" / "connect_quickstart_cluster1_4.10.sh"
    without = "".join(
        line for line in done.stdout.splitlines(True) if not line.startswith("# assumed")
    )
    assert without == golden.read_text()


def test_a_warning_goes_to_stderr() -> None:
    proposal = str(EXAMPLES / "proposal.yaml")
    done = run("plan", proposal, "--dry-run", "--libreswan", "4.10", "--local", "cluster1")
    assert done.stderr.startswith("cablectl: warning: dpd: off")


@pytest.mark.parametrize("name", ["cluster2", "cluster2-worker", "172.18.0.7"])
def test_local_takes_cluster_hostname_or_address(name: str) -> None:
    assert "--host 172.18.0.7 --clientprotoport udp/4789" in run(*DRY, "--local", name).stdout


def test_an_unknown_end_lists_the_ends() -> None:
    done = run(*DRY, "--local", "cluster3")
    assert done.returncode == 2
    assert "cluster1 (cluster1-worker, 172.18.0.8)" in done.stderr


def test_connect_and_teardown_have_the_same_dry_run() -> None:
    file, local = DRY[1], ("--local", "cluster1")
    for action in ("connect", "teardown"):
        planned = run("plan", file, "--dry-run", *local, "--action", action)
        assert run(action, file, "--dry-run", *local).stdout == planned.stdout


def test_a_dry_run_of_connect_heeds_its_options() -> None:
    waits = run("connect", DRY[1], "--local", "cluster1", "--dry-run", "--timeout", "7").stdout
    assert waits.count("172-18-0-7-0 7\n") == 1
    assert "trafficstatus" not in (
        run("connect", DRY[1], "--local", "cluster1", "--dry-run", "--no-wait").stdout
    )


def test_json() -> None:
    done = run(*DRY, "--local", "cluster1", "--format", "json")
    envelope = json.loads(done.stdout)
    plan = envelope["result"]
    assert (envelope["version"], plan["action"], plan["libreswan"]) == (1, "connect", "4.10")
    assert (plan["mode"], plan["overlay"]) == ("transport", "vxlan")
    assert set(plan["steps"][0]) == {
        *("phase", "argv", "why", "undo", "needed", "reason", "change", "cable"),
    }
    needed = [step for step in plan["steps"] if step["needed"]]
    assert ["pidof", "pluto"] in [step["argv"] for step in needed]


def test_table_fits_80_columns_and_has_no_colour_in_a_pipe() -> None:
    done = run(*DRY, "--local", "cluster1", "--format", "table")
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "\x1b" not in done.stdout
    assert "submariner-cable-cluster2-172-18-0-7-0" in done.stdout


def test_a_typo_is_one_line_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "cable.yaml"
    file.write_text((EXAMPLES / "quickstart.yaml").read_text().replace("overlay:", "overlai:"))
    done = run("plan", str(file), "--dry-run")
    assert done.returncode == 2
    assert done.stdout == ""
    assert f"{file}:5: overlai: unknown field; allowed: version" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        ("plan",),
        ("plan", "no-such-file"),
        ("plan", "/dev/null", "--dry-run"),
        (*DRY, "--format", "xml"),
        (*DRY, "--local", "cluster1", "--libreswan", "3.32"),
        ("connect", DRY[1], "--timeout", "0"),
        ("verify", DRY[1], "--count", "0"),
        ("verify", DRY[1], "--format", "sh"),
        ("plan", DRY[1], "--local", "cluster1", "--libreswan", "4.10"),
        ("frobnicate",),
    ],
)
def test_bad_usage_is_exit_2_without_a_traceback(args: tuple[str, ...]) -> None:
    done = run(*args)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("args", [("connect",), ("teardown",), ("plan",), ("verify",)])
def test_without_root_is_exit_3(args: tuple[str, ...], tmp_path: Path) -> None:
    """As somebody else than root, where the test may become somebody else."""
    file = tmp_path / "cable.yaml"
    file.write_text((EXAMPLES / "quickstart.yaml").read_text())
    code = (
        "import os, sys; os.geteuid = lambda: 1000; sys.argv[0] = 'cablectl';"
        " from cablectl.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *args, str(file), "--local", "cluster1"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 3
    assert done.stderr.splitlines() == [
        "cablectl: only root can read and change a cable",
        "  try: run the same command with sudo",
    ]


def on_a_terminal(*args: str, **environment: str) -> str:
    """Return what the program writes to a terminal."""
    reader, writer = pty.openpty()
    subprocess.run(
        [PROGRAM, *args],
        stdout=writer,
        stderr=writer,
        check=False,
        env={**os.environ, "TERM": "xterm", **environment},
    )
    os.close(writer)
    return shown_on(reader)


def test_colour_on_a_terminal_unless_no_color() -> None:
    assert "\x1b[31m" in on_a_terminal("plan", "no-such-file")
    assert "\x1b" not in on_a_terminal("plan", "no-such-file", NO_COLOR="1")


def test_a_reader_that_leaves_early_sees_no_traceback() -> None:
    line = f"{shlex.quote(PROGRAM)} {shlex.join(DRY)} --local cluster1 --format json"
    script = f"( {line}; echo $? >&2 ) | true"
    done = subprocess.run(["sh", "-c", script], capture_output=True, text=True, check=False)
    assert done.stderr == "1\n"
