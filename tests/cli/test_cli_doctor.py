"""`cablectl doctor` as a process, with findings in the place of a host: exit codes, a report."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from tests.support.places import EXAMPLES
from tests.support.program import run

FILE = (str(EXAMPLES / "quickstart.yaml"), "--local", "cluster1")
# The program, which finds what its first argument says, and for whom; the host's tools are missing.
PROGRAM = """
import sys
from cablectl.cli import main
from cablectl.doctor.collect import diagnosis
from cablectl.doctor.finding import Finding, FindingState
state = FindingState(sys.argv.pop(1))
def findings(cable, files):
    whose = cable.remote.cluster if cable else "this host"
    fix = "" if state is FindingState.OK else "mend it"
    return (Finding("peer", state, f"{whose} of {files}", fix),)
diagnosis.findings = findings
sys.argv[0] = "cablectl"
main()
"""


def doctor(state: str, *args: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-c", PROGRAM, state, "doctor", *args]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("state", "code"), [("ok", 0), ("warn", 0), ("fail", 1)])
def test_the_exit_code_tells_failures(state: str, code: int) -> None:
    for args in ((), FILE, (*FILE, "--format", "json")):
        done = doctor(state, *args)
        assert (done.returncode, done.stderr) == (code, "")
        assert done.stdout


def test_of_a_file() -> None:
    told = json.loads(doctor("ok", *FILE, "--format", "json").stdout)["result"]
    assert told["cable"] == "cluster1 to cluster2"
    assert told["findings"][0]["evidence"] == f"cluster2 of {FILE[0]}"


def test_bad_usage() -> None:
    assert doctor("ok", "--local", "cluster1").returncode == 2
    assert doctor("ok", "missing.yaml").returncode == 2
    assert doctor("ok", FILE[0], "--local", "nobody").returncode == 2


def test_one_peer_of_a_mesh() -> None:
    mesh = (str(EXAMPLES / "mesh.yaml"), "--local", "cluster1")
    done = doctor("ok", *mesh)
    assert (done.returncode, done.stdout) == (2, "")
    assert "--peer: cluster2, cluster3" in done.stderr
    assert "cluster3 of " in doctor("ok", *mesh, "--peer", "cluster3").stdout


def test_the_report(tmp_path: Path) -> None:
    """The findings, and why the rest isn't there; never over a file that is."""
    name = str(tmp_path / "r.tar.gz")
    done = doctor("fail", *FILE, "--report", name)
    assert done.returncode == 1
    assert done.stderr == (
        f"cablectl: note: the report is in {name}, mode 0600: read it before you send it\n"
    )
    assert done.stdout.startswith("fail  peer ")
    with tarfile.open(name) as archive:
        files = {each.name: archive.extractfile(each) for each in archive.getmembers()}
        texts = {name: file.read().decode() for name, file in files.items() if file}
    assert json.loads(texts["r/doctor.json"])["result"]["findings"][0]["state"] == "fail"
    assert "a unit test ran the real ipsec" in texts["r/pluto.txt"]
    for kind in ("plan", "status"):
        envelope = json.loads(texts[f"r/{kind}.json"])
        assert (envelope["kind"], envelope["error"]["exit_code"]) == (kind, 3)
    again = doctor("ok", *FILE, "--report", name)
    assert (again.returncode, again.stdout) == (2, "")
    assert f"{name}: there is one already" in again.stderr


def test_its_help() -> None:
    words = " ".join(run("doctor", "--help").stdout.split())
    assert "Nothing is changed." in words
